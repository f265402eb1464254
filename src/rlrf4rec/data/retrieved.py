"""What a first stage retrieved for every user: the candidates of `first_stage` lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rlrf4rec.records import BoolArray, Float32Array, FloatArray, IntArray

RETRIEVED_SCHEMA = {
    "user": pl.Int32,
    "item": pl.Int32,
    "rank": pl.Int32,
    "score": pl.Float32,
    "touched": pl.Boolean,
}


@dataclass(frozen=True)
class Retrieved:
    """The pool of each user, and where the user's own items stand against it.

    Attributes:
        n_items: items in the catalogue.
        pool_size: items that count as retrieved.
        key: ``[r]``, ``user * n_items + item``, ascending.
        rank: ``[r]``, how many items that the user never touched the first stage puts before it.
        score: ``[r]``, the first stage's score; higher ranks first.
        touched: ``[r]``, whether the user ever touched it. The pool is the items never touched: a
            user's next items compete with it, and not with what the user takes up in between.
    """

    n_items: int
    pool_size: int
    key: IntArray
    rank: IntArray
    score: Float32Array
    touched: BoolArray

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, n_items: int, pool_size: int) -> Retrieved:
        """Take in rows of `RETRIEVED_SCHEMA`, in any order."""
        frame = frame.sort("user", "item")
        user, item, rank = (
            frame[name].to_numpy().astype(np.int64) for name in ("user", "item", "rank")
        )
        return cls(
            n_items,
            pool_size,
            user * n_items + item,
            rank,
            frame["score"].to_numpy().astype(np.float32),
            frame["touched"].to_numpy().astype(np.bool_),
        )

    def pool(self, user: int) -> FloatArray:
        """1 for an item of the user's pool and 0 for every other, ``[i]``."""
        start, end = np.searchsorted(self.key, [user * self.n_items, (user + 1) * self.n_items])
        items = self.key[start:end] - user * self.n_items
        pool = np.zeros(self.n_items)
        pool[items[~self.touched[start:end] & (self.rank[start:end] < self.pool_size)]] = 1
        return pool

    def found(self, user: int, items: IntArray) -> BoolArray:
        """Whether each of a user's own items ``[m]`` ranks before the pool's end."""
        found: BoolArray = self.rank[self._places(user * self.n_items + items)] < self.pool_size
        return found

    def scores(self, users: IntArray, items: IntArray) -> Float32Array:
        """The first stage's scores of lists, ``[n]`` users and ``[n, l]`` items to ``[n, l]``."""
        found: Float32Array = self.score[self._places(users[:, None] * self.n_items + items)]
        return found

    def _places(self, wanted: IntArray) -> IntArray:
        return np.searchsorted(self.key, wanted)


def retrieve(
    scores: Float32Array, touched: BoolArray, users: IntArray, kept: BoolArray, pool_size: int
) -> pl.DataFrame:
    """What a first stage's scores retrieve.

    Args:
        scores: ``[b, i]``.
        touched: ``[b, i]``, items that each user touched, early or late.
        users: ``[b]``, their numbers.
        kept: ``[b, i]``, items to keep besides the pool: the user's feedback.
        pool_size: items never touched to keep; fewer where there are not so many.

    Returns:
        Rows of `RETRIEVED_SCHEMA`. Of equal scores the lower item number ranks first.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    free = ~np.take_along_axis(touched, order, axis=1)
    before: IntArray = np.cumsum(free, axis=1) - free
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, before, axis=1)
    row, item = np.nonzero((~touched & (rank < pool_size)) | kept)
    return pl.DataFrame(
        {
            "user": users[row],
            "item": item,
            "rank": rank[row, item],
            "score": scores[row, item],
            "touched": touched[row, item],
        },
        schema=RETRIEVED_SCHEMA,
    )
