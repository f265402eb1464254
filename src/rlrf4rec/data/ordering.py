"""Sorting within groups, in linear time but for the sorting of the small groups themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlrf4rec.records import IntArray

# Row numbers, codes, times: of the smallest type that holds them.
Values = npt.NDArray[Any]


def sort_within(
    group: Values, payload: Values, keys: list[Values]
) -> tuple[Values, IntArray, IntArray]:
    """Sort a payload within each group by keys, the most important first, then by itself.

    Args:
        group: ``[k]``, ascending from 0 or above; a group's members stand together.
        payload: ``[k]``, ascending within the group; indices into the keys. Is overwritten.
        keys: at least one; numbers without NaN.

    Returns:
        The sorted payload; the places ``[t]`` of members that agree with a neighbour of their
        group in the first key; and the number of their run ``[t]`` of such neighbours.
    """
    from scipy.sparse import csr_array  # slow to import

    first = _from_zero(keys[0])[payload]
    starts = np.searchsorted(group, np.arange(group[-1] + 2 if len(group) else 1))
    if len(group) < 2**31:
        starts = starts.astype(first.dtype)  # scipy wants one type, and would take the larger
    # A matrix with a row a group and a column a key: its rows are sorted in place, each by itself.
    shape = (len(starts) - 1, int(first.max(initial=0)) + 1)
    matrix = csr_array((payload, first, starts), shape=shape)
    matrix.sort_indices()
    payload, first = matrix.data, matrix.indices
    same = np.zeros(len(payload) + 1, dtype=np.bool_)  # as the member before; one past the end
    same[1:-1] = first[1:] == first[:-1]
    same[starts] = False
    tied = np.flatnonzero(same[:-1] | same[1:]).astype(np.int64, copy=False)
    run = np.cumsum(~same[tied], dtype=np.int64)
    # How ties come out is not promised.
    member = payload[tied]
    order = np.lexsort((member, *(key[member] for key in reversed(keys[1:])), run))
    payload[tied] = member[order]
    return payload, tied, run


def _from_zero(key: Values) -> Values:
    """Whole numbers from 0 in the same order; the same where the key is."""
    if not len(key):
        return key.astype(np.int64)
    low, high = key.min(), key.max()
    if key.dtype.kind == "f" or int(high) - int(low) >= 2**62:
        _, places = np.unique(key, return_inverse=True)
        return places
    span = np.int32 if int(high) - int(low) < 2**31 - 1 else np.int64
    shifted: Values = (key - low).astype(span)
    return shifted
