"""Rerank candidate lists with a finished run's recommender and stored text vectors."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rlrf4rec.errors import RequestError, WorkspaceError
from rlrf4rec.recommenders import FittedRecommender, ListInputs
from rlrf4rec.records import PADDING, CandidateLists, Float32Array, Histories, IntArray
from rlrf4rec.serving.requests import History, Ranked, Ranking, RankRequest, RatingScale

SCALE_FILE = "log.json"
"""Of a deployed folder: ``ratings``, the log's lowest and highest one, or null without any."""

MAX_CANDIDATES_AT_ONCE = 8192
"""Lists are scored in parts, so that a long stream needs little memory."""


@dataclass(frozen=True)
class _Reading:
    """What is known of a request's reader.

    Attributes:
        user: whose history is stored; -1: it came with the request, or there is none.
        items: read items, oldest first.
        ratings: of these, NaN where there is none.
        text: row of the text vectors, -1 for none.
        n_unknown: read items that were passed over.
    """

    user: int
    items: IntArray
    ratings: Float32Array
    text: int
    n_unknown: int


class Reranker:
    """The deployed recommender of a finished run.

    Neither the LLM nor the text encoder is needed: each user's text is stored as a vector.

    Args:
        recommender: trained on all users.
        item_ids: the catalogue, in the order of the recommender's items.
        user_ids: in the order of the histories.
        histories: reading histories of the users.
        item_vectors: text vectors of the items ``[i, d]``.
        text_vectors: text vectors of the users' texts ``[r, d]``.
        text_rows: ``[u]``, the row of each user's text, -1 for none.
        rating_scale: what the ratings of requests must keep to; None: not known.
    """

    def __init__(
        self,
        recommender: FittedRecommender,
        item_ids: Sequence[str],
        user_ids: Sequence[str],
        histories: Histories,
        item_vectors: Float32Array,
        text_vectors: Float32Array,
        text_rows: IntArray,
        rating_scale: RatingScale | None = None,
    ) -> None:
        # Without item texts the recommender knows the items it has met, and none after the last.
        n_items = recommender.model.sizes.n_items
        self._items = {item_id: item for item, item_id in enumerate(item_ids[:n_items])}
        self._users = {user_id: user for user, user_id in enumerate(user_ids)}
        self._histories = histories
        self.rating_scale = rating_scale
        knowledge = recommender.knowledge
        self._text_rows = text_rows if knowledge.user else np.full_like(text_rows, -1)
        # Taken in once: a request then costs little but its own list.
        self._scorer = recommender.scorer(
            ListInputs.from_numpy(
                histories,
                item_vectors if knowledge.item else None,
                text_vectors if knowledge.user else None,
                n_items=n_items,
            )
        )

    @classmethod
    def load(cls, run_folder: Path | str) -> Reranker:
        """Load the reranker of a finished run.

        Raises:
            WorkspaceError: not a finished run, or its files are damaged.
        """
        folder = Path(run_folder) / "deployed"
        if not folder.is_dir():
            raise WorkspaceError(
                "a finished run with its folder 'deployed'",
                found=f"none in {run_folder}",
                remedy="Finish the run first: rlrf4rec run CONFIG --output RUN",
            )
        try:
            vectors = load_file(folder / "vectors.safetensors")
            histories = Histories(**load_file(folder / "histories.safetensors"))
            items = pl.read_parquet(folder / "items.parquet")["item_id"].to_list()
            users = pl.read_parquet(folder / "users.parquet")["user_id"].to_list()
            recommender = FittedRecommender.load(folder / "recommender")
            _check_fit(folder, recommender, len(items), len(users), histories, vectors["rows"])
            return cls(
                recommender,
                items,
                users,
                histories,
                vectors["items"],
                vectors["texts"],
                vectors["rows"],
                _rating_scale(folder),
            )
        except (
            OSError,
            SafetensorError,
            ValueError,
            KeyError,
            TypeError,
            pl.exceptions.PolarsError,
        ) as error:
            raise WorkspaceError(
                f"a whole reranker in {folder}",
                found=f"{type(error).__name__}: {error}",
                remedy="Delete this folder and make it again: rlrf4rec evaluate RUN",
            ) from error

    def rerank(
        self,
        candidates: Sequence[str],
        *,
        user_id: str | None = None,
        history: History | None = None,
    ) -> Ranking:
        """Rank one candidate list.

        A known user is ranked with the stored text and, unless ``history`` is given, the stored
        reading history. Anyone else is ranked without a text, by ID alone, with ``history`` or an
        empty one.

        Args:
            candidates: item ids, each once. Unknown items come last, with score None.
            user_id: as in the log.
            history: (item id, rating or None), oldest first. Unknown items are passed over and
                counted; of the rest, as many of the last as the recommender was trained with.

        Raises:
            RequestError: see `RankRequest`; or ratings that are not of the log's scale.
        """
        return self.rerank_many([RankRequest(candidates, user_id, history)])[0]

    def rerank_many(self, requests: Sequence[RankRequest]) -> list[Ranking]:
        """Rank many lists at once: the same rankings as one by one, in the requests' order.

        Lists may differ in length.

        Raises:
            RequestError: something else than requests, or ratings that are not of the log's scale.
        """
        for place, request in enumerate(requests):
            if not isinstance(request, RankRequest):
                raise RequestError(
                    "a rlrf4rec.RankRequest for each list",
                    found=f"{type(request).__name__} at place {place}",
                    remedy='For example RankRequest(["242", "302"], user_id="22").',
                )
            if self.rating_scale is not None:
                self.rating_scale.check(request)
        readings = [self._reading(request) for request in requests]
        known = [
            [candidate for candidate in request.candidates if candidate in self._items]
            for request in requests
        ]
        scores: list[dict[str, float]] = [{} for _ in requests]
        for places in _batches([len(candidates) for candidates in known]):
            scored = self._score(
                [readings[place] for place in places], [known[place] for place in places]
            )
            for place, row in zip(places, scored.tolist(), strict=True):
                scores[place] = dict(zip(known[place], row, strict=True))
        return [
            Ranking(
                _order(request.candidates, scores[place]),
                known_user=request.user_id in self._users,
                n_unknown_history=readings[place].n_unknown,
            )
            for place, request in enumerate(requests)
        ]

    def _reading(self, request: RankRequest) -> _Reading:
        user = None if request.user_id is None else self._users.get(request.user_id)
        text = -1 if user is None else int(self._text_rows[user])
        if user is not None and request.history is None:
            return _Reading(user, *self._histories.read_by(user), text, n_unknown=0)
        history = list(request.history or [])
        read = [
            (self._items[item], np.nan if rating is None else float(rating))
            for item, rating in history
            if item in self._items
        ]
        # Training never saw a longer history.
        kept = read[-self._histories.items.shape[1] :]
        return _Reading(
            PADDING,
            np.array([item for item, _ in kept], dtype=np.int64),
            np.array([rating for _, rating in kept], dtype=np.float32),
            text,
            n_unknown=len(history) - len(read),
        )

    def _score(self, readings: list[_Reading], candidates: list[list[str]]) -> Float32Array:
        """Scores ``[n, l]`` of lists of one length."""
        n = len(readings)
        users = np.array([reading.user for reading in readings])
        histories = None
        if users.min() < 0:
            users, histories = np.arange(n), self._given(readings)
        items = np.array([[self._items[item] for item in row] for row in candidates])
        zeros = np.zeros(n, dtype=np.int64)
        lists = CandidateLists("request", users, zeros, zeros, items, np.zeros_like(items))
        texts = np.array([reading.text for reading in readings])
        return self._scorer.score(lists, texts, histories)

    def _given(self, readings: list[_Reading]) -> Histories:
        """The histories of these readings, in their order."""
        shape = (len(readings), self._histories.items.shape[1])
        items = np.full(shape, PADDING, dtype=np.int64)
        ratings = np.full(shape, np.nan, dtype=np.float32)
        for row, reading in enumerate(readings):
            items[row, : len(reading.items)] = reading.items
            ratings[row, : len(reading.items)] = reading.ratings
        return Histories(items, ratings, np.array([len(reading.items) for reading in readings]))


def _rating_scale(folder: Path) -> RatingScale | None:
    """Of the log; None where an older version has deployed."""
    if not (folder / SCALE_FILE).exists():
        return None
    ends = json.loads((folder / SCALE_FILE).read_text(encoding="utf-8"))["ratings"]
    return RatingScale(*map(float, ends or (math.nan, math.nan)))


def _order(candidates: Sequence[str], scores: dict[str, float]) -> tuple[Ranked, ...]:
    """Best first; equal scores, and then unknown items, in the order given."""
    known = [item for item in candidates if item in scores]
    unknown = [item for item in candidates if item not in scores]
    # Reversed, sorting keeps the order of equals, too.
    ordered = [*sorted(known, key=scores.__getitem__, reverse=True), *unknown]
    return tuple(map(Ranked, ordered, map(scores.get, ordered), itertools.count(1)))


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Places of lists of one length, not too many at once; without those of empty lists."""
    by_length: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        by_length.setdefault(length, []).append(place)
    by_length.pop(0, None)
    for length, places in by_length.items():
        size = max(1, MAX_CANDIDATES_AT_ONCE // length)
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _check_fit(
    folder: Path,
    recommender: FittedRecommender,
    n_items: int,
    n_users: int,
    histories: Histories,
    text_rows: IntArray,
) -> None:
    """The parts of a deployed folder belong together.

    Raises:
        WorkspaceError: they do not.
    """
    sizes = recommender.model.sizes
    fewer_items = sizes.n_items <= n_items and not sizes.has_item_text
    n_histories, n_rows = len(histories.items), len(text_rows)
    if not (sizes.n_items == n_items or fewer_items) or (n_histories, n_rows) != (n_users, n_users):
        raise WorkspaceError(
            f"{n_items} items and {n_users} users in all files of {folder}",
            found=f"{sizes.n_items} items in the recommender, {n_histories} histories, "
            f"texts for {n_rows} users",
            remedy="Delete this folder and make it again: rlrf4rec evaluate RUN",
        )
