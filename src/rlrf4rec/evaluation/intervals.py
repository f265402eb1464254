"""Means and differences over candidate lists, with uncertainty from resampling users.

A user's lists are alike, so the user, not the list, is the unit that is drawn again (cluster
bootstrap): each resample takes as many users as there are, with replacement, with all their lists,
and recomputes the mean over lists (sum over sum). Intervals are percentile intervals, and p comes
from the same resamples, so that p < 0.05 and "the 95 % interval leaves out 0" say the same (but for
one case in some hundred at 2,000 resamples: the interval's ends lie between two of them).

Lists whose value is NaN (no positive) are left out. Values of several training seeds are averaged
for each list first: three seeds on a user are not three users.

`scipy.stats.bootstrap` with the same statistic agrees (see the tests) but draws anew for each
call. Here the draws for a number of users are made once and shared, so that one call takes a
matrix product of milliseconds, and all systems are compared on the same resampled users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rlrf4rec.records import FloatArray, IntArray

# Numbers in one block of draws (32 MiB as float64): bounds the memory, whatever the users.
_BLOCK = 2**22

# Blocks that are kept, as bytes: all of the default resamples of 130,000 users.
_KEPT = 64


@dataclass(frozen=True)
class Estimate:
    """A mean over lists.

    Attributes:
        mean: None where no list can be scored.
        ci95: 95 % interval; None with fewer than two users.
        n_users: users with at least one scored list.
        n_lists: scored lists.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    n_users: int
    n_lists: int


@dataclass(frozen=True)
class Comparison:
    """A minus b, on the same lists.

    Attributes:
        diff: mean difference; None where no list is scored under both.
        ci95: 95 % interval; None with fewer than two users.
        p: two-sided; None with fewer than two users.
        n_users: users with at least one list scored under both.
        n_lists: lists scored under both.
    """

    diff: float | None
    ci95: tuple[float, float] | None
    p: float | None
    n_users: int
    n_lists: int


def estimate(
    values: npt.ArrayLike, user: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """The mean of a metric over lists.

    Args:
        values: ``[n]`` or ``[seeds, n]``; NaN marks a list that cannot be scored.
        user: ``[n]``, whose list it is.
        resamples: bootstrap resamples of users.
        seed: of the draws.

    Raises:
        ValueError: shapes that do not fit.
    """
    mean, draws, n_users, n_lists = _resample(_per_list(values), user, resamples, seed)
    return Estimate(mean, _interval(draws), n_users, n_lists)


def compare(
    values_a: npt.ArrayLike,
    values_b: npt.ArrayLike,
    user: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """The mean difference a - b between two systems on the same lists.

    p doubles the smaller share of resampled differences on either side of 0; one is added to both
    counts, so that p is never 0 and at least ``2 / (resamples + 1)``.

    Args:
        values_a: ``[n]`` or ``[seeds, n]``; NaN marks a list that cannot be scored.
        values_b: ``[n]`` or ``[seeds, n]``, the same lists in the same order.
        user: ``[n]``, whose list it is.
        resamples: bootstrap resamples of users.
        seed: of the draws.

    Raises:
        ValueError: shapes that do not fit.
    """
    difference = _per_list(values_a) - _per_list(values_b)
    mean, draws, n_users, n_lists = _resample(difference, user, resamples, seed)
    p = None
    if draws is not None:
        tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        p = min(1.0, 2 * (tail + 1) / (len(draws) + 1))
    return Comparison(mean, _interval(draws), p, n_users, n_lists)


def _per_list(values: npt.ArrayLike) -> FloatArray:
    """Average over seeds; a list without a value under any seed has none."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"values must be [n] or [seeds, n], got {array.shape}")
    return array if array.ndim == 1 else array.mean(axis=0)


def _resample(
    values: FloatArray, user: npt.ArrayLike, resamples: int, seed: int
) -> tuple[float | None, FloatArray | None, int, int]:
    """Mean over lists, its resampled values ``[resamples]``, users and lists that counted."""
    owner = np.asarray(user)
    if owner.shape != values.shape:
        raise ValueError(f"values {values.shape} and user {owner.shape} do not fit")
    scored = ~np.isnan(values)
    n_lists = int(scored.sum())
    users, index = np.unique(owner[scored], return_inverse=True)
    n_users = len(users)
    if n_users == 0:
        return None, None, 0, 0
    totals = np.stack(
        [np.bincount(index, weights=values[scored]), np.bincount(index).astype(np.float64)], axis=1
    )
    mean = float(totals[:, 0].sum() / n_lists)
    if n_users == 1:
        return mean, None, 1, n_lists
    rows = max(1, _BLOCK // n_users)
    parts = [
        _weights(n_users, min(rows, resamples - start), start, seed) @ totals
        for start in range(0, resamples, rows)
    ]
    sums = np.concatenate(parts)
    return mean, sums[:, 0] / sums[:, 1], n_users, n_lists


@lru_cache(maxsize=4)
def _weights(n_users: int, rows: int, start: int, seed: int) -> FloatArray:
    """`_draw_users` as a matrix product takes it; the last few of these are kept, too."""
    weights = _draw_users(n_users, rows, start, seed).astype(np.float64)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=_KEPT)
def _draw_users(n_users: int, rows: int, start: int, seed: int) -> npt.NDArray[np.uint8]:
    """How often each user is drawn, ``[rows, u]``, for resamples ``start`` and following."""
    rng = np.random.default_rng([seed, n_users, start])
    drawn: IntArray = rng.integers(n_users, size=(rows, n_users))
    drawn += np.arange(rows)[:, None] * n_users
    counts = np.bincount(drawn.reshape(-1), minlength=rows * n_users)
    drawn_times = counts.reshape(rows, n_users).astype(np.uint8)
    drawn_times.setflags(write=False)
    return drawn_times


def _interval(draws: FloatArray | None) -> tuple[float, float] | None:
    if draws is None:
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
