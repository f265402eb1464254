"""Reading histories and candidate lists, after KAR's protocol (arXiv 2306.10933 and its code).

A user's first min(ceil(n / 2), max_reading) interactions are the *reading history*. The rest is
the *feedback*, cut into consecutive chunks; each chunk among sampled negatives is a candidate
list. Unlike KAR's code, a negative is an item that its user never touched, early or late.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from rlrf4rec.config import Config, ListKind, ListsConfig
from rlrf4rec.data.retrieved import Retrieved
from rlrf4rec.data.seeds import stable_hash
from rlrf4rec.errors import DataError
from rlrf4rec.records import (
    PADDING,
    BoolArray,
    CandidateLists,
    Dataset,
    Float32Array,
    FloatArray,
    Histories,
    IntArray,
)


def reading_histories(dataset: Dataset, lists: ListsConfig) -> Histories:
    """Every user's first min(ceil(n / 2), max_reading) interactions."""
    counts = _interactions(dataset)
    return _parts(dataset, np.zeros_like(counts), np.minimum((counts + 1) // 2, lists.max_reading))


def latest_histories(dataset: Dataset, most: int) -> Histories:
    """Every user's last interactions, ``most`` of them at most: what is known when lists come in.

    For what is deployed alone: feedback is among them.
    """
    counts = _interactions(dataset)
    lengths = np.minimum(counts, most)
    return _parts(dataset, counts - lengths, lengths)


def _interactions(dataset: Dataset) -> IntArray:
    """How many each user has, ``[u]``."""
    return np.bincount(dataset.interactions["user"].to_numpy(), minlength=dataset.n_users)


def _parts(dataset: Dataset, first: IntArray, lengths: IntArray) -> Histories:
    """Each user's interactions from position ``first [u]`` on, ``lengths [u]`` of them."""
    log, counts = dataset.interactions, _interactions(dataset)
    position = log["position"].to_numpy()
    # The log is sorted by user and position, as the cells of a matrix are by row and column.
    read = position >= np.repeat(first.astype(position.dtype), counts)
    read &= position < np.repeat((first + lengths).astype(position.dtype), counts)
    filled = np.arange(lengths.max(initial=0)) < lengths[:, None]
    items = np.full(filled.shape, PADDING, dtype=np.int64)
    items[filled] = log["item"].to_numpy()[read]
    ratings = np.full(filled.shape, np.nan, dtype=np.float32)
    ratings[filled] = _ratings(log)[read]
    return Histories(items, ratings, lengths)


def candidate_lists(
    dataset: Dataset,
    config: Config,
    kind: ListKind,
    draws: int,
    seed: int,
    retrieved: Retrieved | None = None,
) -> CandidateLists:
    """Every feedback chunk among sampled negatives, sorted by user, chunk and draw.

    A list holds `list_size` distinct items. An item that comes twice in a chunk stands in its
    list once, positive if any of its ratings is; negatives fill the list up. An item is positive
    if it is of the chunk and its rating is missing or at least ``data.positive_rating``. Lists
    without a positive stay: who scores them decides what they count.

    Negatives are drawn without replacement from the items that the user has no interaction with
    in the whole cleaned log, reading history and feedback alike: with equal chances (``uniform``)
    or in proportion to an item's number of interactions (``popular``). Popularity is counted over
    the whole cleaned log, all users' feedback included: it shapes the question that is asked, and
    no model sees it. To *rank* by popularity, use `popularity`, which leaves test feedback out.

    ``first_stage`` draws with equal chances from the pool that a first stage retrieved for the
    user, and a chunk's item that it did not retrieve is left out of the list, as it is in practice
    (unless ``first_stage.keep_missed``). Negatives are drawn, not taken from the top: with the very
    best of the pool as negatives, whoever turned the first stage's order round would win.

    Seeded by (seed, user id, chunk, draw): a user's lists are the same whatever other users there
    are, apart from the popularity that these add to.

    Args:
        dataset: the cleaned log.
        config: its ``lists`` and ``data.positive_rating`` are used; ``lists.kind`` and
            ``lists.draws`` are not.
        kind: how negatives are drawn.
        draws: number of draws of negatives for each chunk.
        seed: of negatives and order.
        retrieved: for kind ``first_stage``, and only there.

    Raises:
        DataError: a user has touched so many items that a list cannot be filled.
        ValueError: kind ``first_stage`` without what was retrieved, or the other way round.
    """
    if (kind == "first_stage") != (retrieved is not None):
        raise ValueError("retrieved is for lists of kind 'first_stage', and these need it")
    lists = config.lists
    user, item, rating, _ = log_columns(dataset)
    # The log's ratings are f32: 4.1 in f32 is below 4.1 in f64.
    positive = np.isnan(rating) | (rating >= np.float32(config.data.positive_rating))
    supply = _Supply(_weights(kind, item, dataset.n_items))
    ends = np.cumsum(np.bincount(user, minlength=dataset.n_users)).tolist()
    user_ids = dataset.users["user_id"].to_list()
    heads: list[tuple[int, int, int]] = []
    rows: list[IntArray] = []
    labels: list[IntArray] = []
    start = 0
    for number, end in enumerate(ends):
        touched, liked = item[start:end], positive[start:end]
        start = end
        own = supply if retrieved is None else _Supply(retrieved.pool(number))
        negatives = _Negatives(own, touched)
        name = stable_hash(user_ids[number])
        for chunk, span in enumerate(_chunks(len(touched), lists)):
            items, chunk_labels = _distinct(touched[span], liked[span])
            if retrieved is not None and not config.first_stage.keep_missed:
                found = retrieved.found(number, items)
                items, chunk_labels = items[found], chunk_labels[found]
            missing = lists.list_size - len(items)
            if len(negatives) < missing:
                raise _too_few(user_ids[number], len(negatives), missing, dataset.n_items, kind)
            chunk_labels = np.concatenate([chunk_labels, np.zeros(missing, dtype=np.int64)])
            for draw in range(draws):
                # Handed over as a sequence, it is made in half the time, and is the same.
                entropy = np.random.SeedSequence([seed, name, chunk, draw])
                rng = np.random.default_rng(entropy)
                full = np.concatenate([items, negatives.draw(rng, missing)])
                order = rng.permutation(lists.list_size)
                heads.append((number, chunk, draw))
                rows.append(full[order])
                labels.append(chunk_labels[order])
    head = np.asarray(heads, dtype=np.int64).reshape(-1, 3)
    shape = (-1, lists.list_size)
    candidates = np.asarray(rows, dtype=np.int64).reshape(shape)
    return CandidateLists(
        kind,
        user=head[:, 0],
        chunk=head[:, 1],
        draw=head[:, 2],
        items=candidates,
        labels=np.asarray(labels, dtype=np.int64).reshape(shape),
        first_stage=None if retrieved is None else retrieved.scores(head[:, 0], candidates),
    )


def popularity(
    dataset: Dataset, users_mask: BoolArray, histories: Histories | None = None
) -> FloatArray:
    """Interactions of each item ``[i]`` that a ranking by popularity may know.

    Counts all interactions of the users in ``users_mask`` ``[u]`` (the training users) and, where
    ``histories`` is given, the reading histories of everyone else. The feedback of users outside
    the mask is never counted.
    """
    user, item, _, position = log_columns(dataset)
    counted = users_mask[user]
    if histories is not None:
        counted = counted | (position < histories.lengths[user])
    return np.bincount(item[counted], minlength=dataset.n_items).astype(np.float64)


class _Supply:
    """Items to draw from, in proportion to their weights ``[i]``, which are whole numbers."""

    def __init__(self, weights: FloatArray) -> None:
        self.weights = weights
        self.cumulative: FloatArray = np.cumsum(weights)
        self.size = int(np.count_nonzero(weights))


class _Negatives:
    """The items of a supply that a user never touched.

    Finding one takes no pass over the catalogue: only the touched items are looked at, for what
    their weights take away from the supply's sums. With whole weights these sums are exact.
    """

    def __init__(self, supply: _Supply, touched: IntArray) -> None:
        self._supply = supply
        touched = np.unique(touched)
        self._touched: IntArray = touched[supply.weights[touched] > 0]
        gone = np.cumsum(supply.weights[self._touched])
        self._gone: FloatArray = np.concatenate([[0.0], gone])
        # What is left of the sum up to each touched item.
        self._left: FloatArray = supply.cumulative[self._touched] - gone

    def __len__(self) -> int:
        return self._supply.size - len(self._touched)

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        """``count`` distinct items, each drawn in proportion to the weights that are left.

        Drawing with replacement and skipping repeats gives that distribution and costs no pass
        over the catalogue. When repeats eat up the supply (few items, or a few heavy ones), the
        rest comes from exponential races over the items left (Efraimidis and Spirakis, 2006),
        which have the same distribution.
        """
        if not count:
            return np.empty(0, dtype=np.int64)
        total = self._supply.cumulative[-1] - self._gone[-1]
        # The sums are whole numbers: one exceeds a point if it exceeds the point's whole part.
        # Rounding can carry a point onto the last sum.
        points = np.minimum(np.floor(rng.random(4 * count) * total), total - 1)
        before = np.searchsorted(self._left, points, side="right")
        points += self._gone[before]
        items = np.searchsorted(self._supply.cumulative, points, side="right")
        chosen = list(dict.fromkeys(items.tolist()))[:count]
        missing = count - len(chosen)
        if missing:
            chosen += self._race(rng, chosen)[:missing].tolist()
        return np.asarray(chosen, dtype=np.int64)

    def _race(self, rng: np.random.Generator, chosen: list[int]) -> IntArray:
        """The items left, in the order in which they arrive; those chosen come last."""
        weights = self._supply.weights.copy()
        weights[self._touched] = 0
        items = np.flatnonzero(weights)
        arrival = rng.exponential(size=len(items)) / weights[items]
        arrival[np.searchsorted(items, chosen)] = np.inf
        return items[np.argsort(arrival, kind="stable")]


def log_columns(dataset: Dataset) -> tuple[IntArray, IntArray, Float32Array, IntArray]:
    """User, item, rating (NaN where there is none) and position of every interaction."""
    log = dataset.interactions
    user, item, position = (
        log[column].to_numpy().astype(np.int64) for column in ("user", "item", "position")
    )
    return user, item, _ratings(log), position


def _ratings(log: pl.DataFrame) -> Float32Array:
    return log["rating"].cast(pl.Float32).fill_null(float("nan")).to_numpy()


def _weights(kind: ListKind, item: IntArray, n_items: int) -> FloatArray:
    if kind == "popular":
        return np.bincount(item, minlength=n_items).astype(np.float64)
    return np.ones(n_items)


def _chunks(n_interactions: int, lists: ListsConfig) -> Iterator[slice]:
    """Where a user's feedback chunks lie among the user's interactions."""
    start = min((n_interactions + 1) // 2, lists.max_reading)
    while start < n_interactions:
        end = start + lists.chunk_size
        if end <= n_interactions or lists.partial_chunk:
            yield slice(start, min(end, n_interactions))
        start = end


def _distinct(items: IntArray, positive: BoolArray) -> tuple[IntArray, IntArray]:
    """A chunk's items, each once, and their labels."""
    label: dict[int, int] = {}
    for item, liked in zip(items.tolist(), positive.tolist(), strict=True):
        label[item] = max(label.get(item, 0), int(liked))
    return np.array(list(label), dtype=np.int64), np.array(list(label.values()), dtype=np.int64)


def _too_few(user_id: str, eligible: int, missing: int, n_items: int, kind: ListKind) -> DataError:
    with_log = {"popular": " and that are in the log", "first_stage": " and that are retrieved"}
    return DataError(
        f"at least {missing} items that user {user_id!r} never touched{with_log.get(kind, '')}",
        found=f"{eligible} of {n_items} items in the catalogue",
        remedy="Remove this user from the log, lower lists.list_size, or add items to the "
        "catalogue.",
    )
