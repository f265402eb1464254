"""The systems of the results table: what knowledge each of them gives the recommender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from rlrf4rec.evaluation.results import MEAN, VARIANTS, WITH_HISTORY
from rlrf4rec.knowledge.texts import history_texts, profile_vectors
from rlrf4rec.records import CandidateLists, Float32Array, IntArray
from rlrf4rec.stages.text_inputs import encode_texts, text_rows, user_vectors
from rlrf4rec.stages.trail import Round, Trail
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


@dataclass(frozen=True)
class System:
    """A recommender's knowledge.

    Attributes:
        name: as in results.json.
        vectors: user text vectors ``[r, d]``; None for a system without any text.
        rows: ``[u, 2, a]``: alternatives for a user's lists of even and of odd feedback chunks.
            Only ``best_of_n`` tells the two apart.
        needs: the stages that this came from.
        reads: ``[u]``, whose texts each user reads; None: everybody his own.
        n_texts: of how many texts a user's vector is the mean.
    """

    name: str
    vectors: Float32Array | None
    rows: IntArray
    needs: tuple[Stage, ...] = ()
    reads: IntArray | None = None
    n_texts: int = 1

    def list_rows(self, lists: CandidateLists) -> IntArray:
        """Alternatives of each list, ``[n, a]``."""
        return self.rows[lists.user, lists.chunk % 2]


def trained_systems(world: World, trail: Trail) -> list[System]:
    """Every system that trains a recommender, in the order of the table."""
    systems = [without_text(world), profile(world), history_text(world)]
    untuned, *tuned = (
        _texts_of(world, _name(current), current.samples) for current in trail.rounds
    )
    systems += [shuffled(world, tuned[-1] if tuned else untuned), untuned]
    if trail.cool is not None:
        # As in round 0, all policies share one stage.
        of_policies = dict.fromkeys(world.folds.policies, trail.cool)
        systems.append(_texts_of(world, "untuned_cool", of_policies))
    systems.append(_best_of_n(world, trail.rounds[0]))
    if trail.random_pairs is not None:
        systems.append(_texts_of(world, "random_pairs", trail.random_pairs.samples))
    systems += tuned
    n_texts = world.config.texts_per_user
    for variant in VARIANTS:
        several, joined = MEAN in variant, WITH_HISTORY in variant
        if (several and n_texts == 1) or (joined and not world.config.evaluation.with_history):
            continue
        systems += [
            _texts_of(
                world,
                f"{_name(current)}{variant}",
                current.samples,
                n_texts if several else 1,
                join_history=joined or None,
            )
            for current in trail.rounds
        ]
    return systems


def held_out_texts(world: World, samples: Mapping[int, Stage], n_samples: int) -> pl.DataFrame:
    """Each user's texts by the policy that was not tuned on this user.

    With protocol ``split``, training users have no such policy: theirs come from the only one
    there is, and they are not tested.
    """
    parts = []
    for half, stage in samples.items():
        own = world.folds.half == half
        wanted = ~own if world.folds.protocol == "cross" else world.folds.written
        users = pl.Series(np.flatnonzero(wanted), dtype=pl.Int32)
        frame = stage.frame("samples.parquet")
        parts.append(
            frame.filter(pl.col("user").is_in(users.implode()) & (pl.col("sample") < n_samples))
        )
    return pl.concat(parts).sort("user", "sample")


def first_texts(world: World, samples: Mapping[int, Stage]) -> dict[int, str]:
    """Of each user's `held_out_texts` the first one."""
    return dict(held_out_texts(world, samples, 1).select("user", "text").iter_rows())


def _name(current: Round) -> str:
    return f"tuned_round_{current.number}" if current.number else "untuned"


def _texts_of(
    world: World,
    name: str,
    samples: Mapping[int, Stage],
    n_texts: int = 1,
    *,
    join_history: bool | None = None,
) -> System:
    texts = held_out_texts(world, samples, n_texts)
    vectors, rows = user_vectors(world, texts, join_history=join_history)
    return System(name, vectors, both_halves(rows), tuple(samples.values()), n_texts=n_texts)


def without_text(world: World) -> System:
    """System ``id``: no text at all."""
    return System("id", None, np.full((world.dataset.n_users, 2, 1), -1))


def profile(world: World) -> System:
    """System ``profile``: the rating-weighted mean of the read items' text vectors."""
    vectors = profile_vectors(world.histories, world.item_vectors)
    return System("profile", vectors, one_row_each(world))


def history_text(world: World) -> System:
    """System ``history_text``: the text of the items that the user liked, as it stands."""
    texts = history_texts(world.dataset, world.histories, world.config.data.positive_rating)
    rows = one_row_each(world)
    rows[[not text for text in texts]] = -1
    return System("history_text", world.encoder.encode(texts), rows)


def shuffled(world: World, system: System) -> System:
    """The control: every user reads another user's texts, in training and in the test."""
    rng = np.random.default_rng([world.config.seed, 1])
    reads = np.empty(world.dataset.n_users, dtype=np.int64)
    # Apart, so that nobody who is tested reads a user for whom nothing was written.
    for users in (np.flatnonzero(world.folds.written), np.flatnonzero(~world.folds.written)):
        reads[users] = users[one_other(len(users), rng)]
    return System("shuffled", system.vectors, system.rows[reads], system.needs, reads)


def _best_of_n(world: World, first: Round) -> System:
    """Of the N untuned texts, the one with the best reward on the user's *other* lists.

    A list of an even feedback chunk gets the text chosen on the odd chunks, and the other way
    round, so that a text is never tested on the feedback it was chosen by. No other system sees any
    of a test user's feedback: this row shows what choosing can reach, not a rival.
    """
    config = world.config
    parts = []
    for half, stage in first.judged.items():
        # Rewarded by recommenders that learned from the other half only.
        other = world.folds.half != half if world.folds.protocol == "cross" else None
        frame = stage.frame("rewards.parquet")
        parts.append(frame if other is None else frame.filter(other[frame["user"].to_numpy()]))
    texts = pl.concat(parts).sort("user", "sample")
    rows = text_rows(world.dataset.n_users, texts)
    metric = config.reward.metric
    best = np.stack(
        [best_rows(rows, texts[f"{metric}_odd"]), best_rows(rows, texts[f"{metric}_even"])], axis=1
    )
    return System(
        "best_of_n",
        encode_texts(world, texts),
        best[:, :, None],
        (*first.samples.values(), *first.judged.values()),
    )


def best_rows(rows: IntArray, rewards: pl.Series) -> IntArray:
    """The row of each user's best text, ``[u]``; the first one where none is rewarded."""
    # A text without a reward comes before none at all.
    value = rewards.cast(pl.Float64).fill_null(np.finfo(np.float64).min).to_numpy()
    reward = np.where(rows >= 0, value[np.maximum(rows, 0)], -np.inf)
    # argmax takes the first of equals.
    best: IntArray = np.take_along_axis(rows, reward.argmax(axis=1)[:, None], axis=1)[:, 0]
    return best


def one_row_each(world: World) -> IntArray:
    """`System.rows` where user u's only text is row u, ``[u, 2, 1]``."""
    return both_halves(np.arange(world.dataset.n_users)[:, None])


def one_other(n: int, rng: np.random.Generator) -> IntArray:
    """Another one for each of ``n``, ``[n]``, along one random cycle: nobody keeps his own."""
    order = rng.permutation(n)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


def both_halves(rows: IntArray) -> IntArray:
    """The same alternatives ``[u, a]`` for lists of even and of odd chunks: `System.rows`."""
    return np.repeat(rows[:, None, :], 2, axis=1)
