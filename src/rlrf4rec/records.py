"""The typed records that travel between rooms.

Shape legend, used everywhere: ``u`` users, ``i`` items, ``n`` candidate lists, ``l`` candidates
in a list, ``h`` interactions in a history, ``s`` sampled texts of a user, ``d`` a text vector's
dimension.

Ids: outside, users and items carry the log's own strings (``user_id``, ``item_id``); inside, they
are contiguous integers from 0 (``user``, ``item``). `Dataset.users` and `Dataset.items` are the
one place where the two meet. In padded arrays, `PADDING` stands where there is no item.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

PADDING = -1


@dataclass(frozen=True)
class Dataset:
    """A cleaned log.

    Attributes:
        name: what the log is called in results.
        interactions: ``user`` i32, ``item`` i32, ``rating`` f32 (null where the log has no ratings:
            the interaction itself is the positive signal), ``position`` i32 (0, 1, … within the
            user, oldest first). Sorted by user and position.
        items: ``item`` i32 (equal to the row number), ``item_id``, ``title``, ``details`` (its
            attributes in one line, may be empty).
        users: ``user`` i32 (equal to the row number), ``user_id``, ``profile`` (one line, may be
            empty).
        dropped: how many rows or users were left out, by reason.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        return self.users.height

    @property
    def n_items(self) -> int:
        return self.items.height


@dataclass(frozen=True)
class Histories:
    """Every user's reading history, the only interactions that may reach a prompt or a model input.

    Attributes:
        items: ``[u, h]``, oldest first, padded at the end with `PADDING`.
        ratings: ``[u, h]``, NaN where padded or where the log has no ratings.
        lengths: ``[u]``.
    """

    items: IntArray
    ratings: Float32Array
    lengths: IntArray

    def read_by(self, user: int) -> tuple[IntArray, Float32Array]:
        """What a user has read, and the ratings, oldest first and without padding."""
        length = int(self.lengths[user])
        return self.items[user, :length], self.ratings[user, :length]


@dataclass(frozen=True)
class CandidateLists:
    """Lists to rank: a chunk of a user's feedback among sampled negatives.

    Attributes:
        kind: ``uniform``, ``popular`` or ``first_stage``: where the negatives come from.
        user: ``[n]``.
        chunk: ``[n]``, the number of the feedback chunk within its user, oldest first.
        draw: ``[n]``, which draw of negatives; lists of different draws share their positives.
        items: ``[n, l]``, in a seeded random order.
        labels: ``[n, l]``, 1 for a positive, 0 otherwise.
        first_stage: ``[n, l]``, the score of the first stage that retrieved the candidates; None
            where they were not retrieved.
    """

    kind: str
    user: IntArray
    chunk: IntArray
    draw: IntArray
    items: IntArray
    labels: IntArray
    first_stage: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: BoolArray | IntArray) -> CandidateLists:
        """The lists at the given rows (a mask ``[n]`` or indices)."""
        return CandidateLists(
            self.kind,
            self.user[rows],
            self.chunk[rows],
            self.draw[rows],
            self.items[rows],
            self.labels[rows],
            None if self.first_stage is None else self.first_stage[rows],
        )

    def to_frame(self) -> pl.DataFrame:
        """One row a list, as it is stored; ``first_stage`` only where there is one."""
        frame = pl.DataFrame(
            {
                "kind": [self.kind] * len(self),
                "user": self.user.astype(np.int32),
                "chunk": self.chunk.astype(np.int32),
                "draw": self.draw.astype(np.int32),
                "items": self.items.astype(np.int32),
                "labels": self.labels.astype(np.int8),
            },
            schema_overrides={"kind": pl.String},
        )
        if self.first_stage is None:
            return frame
        return frame.with_columns(pl.Series("first_stage", self.first_stage.astype(np.float32)))

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> CandidateLists:
        """The inverse of `to_frame`."""

        def matrix(column: str) -> IntArray:
            return np.asarray(frame[column].to_list(), dtype=np.int64)

        first_stage = None
        if "first_stage" in frame.columns:
            first_stage = np.asarray(frame["first_stage"].to_list(), dtype=np.float32)
        return cls(
            frame["kind"][0] if frame.height else "",
            frame["user"].to_numpy().astype(np.int64),
            frame["chunk"].to_numpy().astype(np.int64),
            frame["draw"].to_numpy().astype(np.int64),
            matrix("items"),
            matrix("labels"),
            first_stage,
        )


BACKGROUND = "background"
"""Role of a user who is learned from, and neither written for nor tested."""


@dataclass(frozen=True)
class Folds:
    """Who is used for what; no user's feedback reaches what this user is tested with.

    Attributes:
        half: ``[u]``, the LLM fold: the policy tuned on half ``p`` is tuned on this half's users
            only. With protocol ``split``, training users are half 0 and test users half 1.
        role: ``[u]``, ``train`` (may give pairs), ``validation`` (early stopping of rounds), or
            ``test`` (protocol ``split``: evaluation only); or `BACKGROUND`: recommenders learn
            from the user, whom no LLM writes for (``generation.max_users``).
        fold: ``[u]``, the recommender fold in which the user is tested; with protocol ``split`` the
            test users are fold 0 and everyone else is -1.

    Half and fold of a `BACKGROUND` user are -1.
    """

    half: IntArray
    role: npt.NDArray[np.str_]
    fold: IntArray

    @property
    def written(self) -> BoolArray:
        """``[u]``, the users that the LLM writes for."""
        written: BoolArray = self.role != BACKGROUND
        return written

    @property
    def n_folds(self) -> int:
        """Recommender folds: trainings of a system, for each reranker and seed."""
        return int(self.fold.max()) + 1

    @property
    def protocol(self) -> str:
        return "split" if (self.role == "test").any() else "cross"

    @property
    def policies(self) -> list[int]:
        """The halves on which an LLM is tuned."""
        return [0] if self.protocol == "split" else [0, 1]
