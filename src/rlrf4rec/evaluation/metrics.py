"""Ranking metrics of candidate lists, computed by ir-measures (trec_eval).

Shapes: ``n`` candidate lists, ``l`` candidates in a list, ``s`` sampled texts of a user.

Labels are binary, so a list's metrics depend only on which ranks hold a positive. We rank with
numpy, hand each *distinct* pattern of ranks to the library once, and copy its values to all lists
that share the pattern: lists of 10 have at most 1,024 patterns, however many lists there are.

Names (``k`` is the cut-off):

- ``ndcg@k``: gain 1 for a positive, discount ``1 / log2(rank + 1)``, divided by the best order's.
- ``map@k``: the sum of the precisions at the positives within the top k, divided by
  ``min(k, number of positives)``, so that a perfect order is always 1.
- ``map_hits@k``: the same sum divided by the positives *within the top k* (0 where there is none).
  This is the MAP of KAR's code; it rewards a list for leaving positives out of the top k.
- ``hr@k``: 1 if the top k hold a positive.
- ``mrr@k``, ``mrr``: 1 / rank of the first positive; 0 where that rank is beyond k.
- ``cold_ndcg@k``: ``ndcg@k`` for the cold positives alone, see `cold_metrics`.
- ``user_ndcg@k``: ``ndcg@k`` averaged over each user's lists first, so that users with few lists
  count as much as users with many, see `user_means`.

trec_eval's own AP@k divides by all positives of the list; both of ours are rescaled from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import ir_measures
import numpy as np
import numpy.typing as npt
from ir_measures import AP, RR, Measure, Success, nDCG

from rlrf4rec.errors import RLRF4RecError
from rlrf4rec.records import BoolArray, FloatArray, IntArray

WithoutPositive = Literal["nan", "zero"]

_FAMILIES = ("ndcg", "map", "map_hits", "hr", "mrr")


def metric_names(ks: Sequence[int]) -> list[str]:
    """The names that `list_metrics` returns, in its order.

    >>> metric_names([5])
    ['ndcg@5', 'map@5', 'map_hits@5', 'hr@5', 'mrr@5', 'mrr']
    """
    return [f"{family}@{k}" for family in _FAMILIES for k in ks] + ["mrr"]


def list_metrics(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    ks: Sequence[int],
    without_positive: WithoutPositive = "nan",
) -> dict[str, FloatArray]:
    """Every metric of every list.

    Equal scores keep the candidates' order in the list, which is random by construction
    (`CandidateLists.items`), so a constant scorer earns what random order earns.

    Args:
        labels: ``[n, l]``, 1 for a positive, 0 otherwise.
        scores: ``[n, l]``, or ``[n, s, l]`` to score each list with several texts; higher is
            better.
        ks: cut-offs, each at least 1; one beyond ``l`` takes the whole list.
        without_positive: what a list without a positive gets. ``nan`` leaves it out of means (see
            `rlrf4rec.evaluation.intervals`); ``zero`` is what KAR's code does.

    Returns:
        For each name of `metric_names`, ``[n]`` or ``[n, s]``.

    Raises:
        RLRF4RecError: a score is NaN or infinite.
        ValueError: shapes that do not fit, labels other than 0 and 1, a cut-off below 1.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"cut-offs must be at least 1, got {list(ks)}")
    if without_positive not in ("nan", "zero"):
        raise ValueError(f"without_positive must be 'nan' or 'zero', got {without_positive!r}")
    ranked = _rank(np.asarray(labels), np.asarray(scores))
    shape = ranked.shape[:-1]
    patterns, pattern_of = _distinct(ranked.reshape(-1, ranked.shape[-1]))
    values = _evaluate(patterns, sorted(set(ks)))
    if without_positive == "zero":
        values = {name: np.nan_to_num(column, nan=0.0) for name, column in values.items()}
    return {name: values[name][pattern_of].reshape(shape) for name in metric_names(ks)}


def ndcg(labels: npt.ArrayLike, scores: npt.ArrayLike, k: int) -> FloatArray:
    """NDCG@k alone, ``[n]`` or ``[n, s]``; NaN for lists without a positive.

    Arguments and errors are those of `list_metrics`. The reward of a text (paper: NDCG@5) is the
    mean of this over its user's lists.

    >>> ndcg([[0, 1, 0]], [[0.9, 0.5, 0.1]], k=5).round(4).tolist()
    [0.6309]
    """
    return list_metrics(labels, scores, [k])[f"ndcg@{k}"]


def cold_metrics(
    labels: npt.ArrayLike, scores: npt.ArrayLike, cold: npt.ArrayLike, ks: Sequence[int]
) -> dict[str, FloatArray]:
    """``cold_ndcg@k``: how well lists are ranked for their cold positives alone.

    The warm positives are taken out of the list, so that ranking them high costs nothing, and the
    cold ones are ranked against all negatives. NaN for lists without a cold positive.

    Args:
        labels: ``[n, l]``, as for `list_metrics`.
        scores: ``[n, l]``, likewise.
        cold: ``[n, l]``, true where training may know next to nothing of the candidate.
        ks: cut-offs.

    >>> found = cold_metrics([[1, 1, 0]], [[0.9, 0.1, 0.5]], [[False, True, False]], [5])
    >>> found["cold_ndcg@5"].round(4).tolist()  # second of two, behind the negative
    [0.6309]
    """
    positive, is_cold = np.asarray(labels) == 1, np.asarray(cold, dtype=np.bool_)
    ranked = np.asarray(scores, dtype=np.float64)
    # Last, and without a gain, an item is as good as out of the list.
    last = ranked.min(axis=1, keepdims=True, initial=0.0) - 1
    values = list_metrics(positive & is_cold, np.where(positive & ~is_cold, last, ranked), ks)
    return {f"cold_ndcg@{k}": values[f"ndcg@{k}"] for k in ks}


def user_means(values: FloatArray, users: IntArray) -> FloatArray:
    """Each user's mean over his scored lists, in the place of the first of them.

    NaN in all other places, so that a mean over what is left is one over users.

    Args:
        values: ``[s, n]``, a metric of each list (s seeds); NaN where a list is not scored.
        users: ``[n]``, whose list it is.

    >>> user_means(np.array([[1.0, 0.0, 0.5, np.nan]]), np.array([7, 7, 3, 3])).tolist()
    [[0.5, nan, 0.5, nan]]
    """
    means = np.full_like(values, np.nan)
    for row, mean in zip(values, means, strict=True):
        scored = np.flatnonzero(~np.isnan(row))
        _, first, group = np.unique(users[scored], return_index=True, return_inverse=True)
        mean[scored[first]] = np.bincount(group, row[scored]) / np.bincount(group)
    return means


def _rank(labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic]) -> BoolArray:
    """Positives in ranked order, ``[n, l]`` or ``[n, s, l]``."""
    if labels.ndim != 2 or scores.ndim not in (2, 3):
        raise ValueError(
            f"labels must be [n, l] and scores [n, l] or [n, s, l], got {labels.shape} and "
            f"{scores.shape}"
        )
    if (len(labels), labels.shape[-1]) != (len(scores), scores.shape[-1]):
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} do not fit")
    positive = labels == 1
    if not (positive | (labels == 0)).all():
        raise ValueError("labels must be 0 or 1")
    numbers = scores.astype(np.float64, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        where = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise RLRF4RecError(
            "finite scores",
            found=f"{numbers[where]} in list {where[0]}, candidate {where[-1]} "
            f"({int((~finite).sum())} such scores in all)",
            remedy="The recommender has diverged: lower recommender.learning_rate.",
        )
    order = np.argsort(-numbers, axis=-1, kind="stable")
    if scores.ndim == 3:
        positive = np.broadcast_to(positive[:, None, :], scores.shape)
    return np.take_along_axis(positive, order, axis=-1)


def _distinct(ranked: BoolArray) -> tuple[BoolArray, IntArray]:
    """Distinct rows of ``[m, l]`` and, for each row, which of them it is, ``[m]``."""
    length = ranked.shape[1]
    # A row of up to 64 bits becomes one integer: sorting those is 20 times faster.
    packed = np.packbits(ranked, axis=1)
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    words = np.ascontiguousarray(packed).view(np.uint64)
    if words.shape[1] == 1:
        unique, inverse = np.unique(words[:, 0], return_inverse=True)
        unique = unique[:, None]
    else:
        unique, inverse = np.unique(words, axis=0, return_inverse=True)
    bits = np.unpackbits(np.ascontiguousarray(unique).view(np.uint8), axis=1)
    return bits[:, :length].astype(np.bool_), inverse.reshape(-1).astype(np.int64)


def _evaluate(patterns: BoolArray, ks: Sequence[int]) -> dict[str, FloatArray]:
    """Metrics of ranked patterns ``[m, l]``, each ``[m]``; NaN where there is no positive."""
    n_positive = patterns.sum(axis=1)
    scored = np.flatnonzero(n_positive)
    measures: dict[str, Measure] = {"mrr": RR}
    for k in ks:
        measures |= {f"ndcg@{k}": nDCG @ k, f"ap@{k}": AP @ k}
        measures |= {f"hr@{k}": Success @ k, f"mrr@{k}": RR @ k}
    values = {name: np.full(len(patterns), np.nan) for name in measures}
    if scored.size:
        names = {measure: name for name, measure in measures.items()}
        length = patterns.shape[1]
        ranks = [str(rank) for rank in range(length)]
        run = {rank: float(length - position) for position, rank in enumerate(ranks)}
        judged = {
            str(row): {ranks[rank]: 1 for rank in np.flatnonzero(patterns[row])} for row in scored
        }
        runs = {row: run for row in judged}
        for found in ir_measures.iter_calc(list(names), judged, runs):
            values[names[found.measure]][int(found.query_id)] = found.value
    for k in ks:
        hits = patterns[:, :k].sum(axis=1)
        precision_sum = values.pop(f"ap@{k}") * n_positive
        values[f"map@{k}"] = precision_sum / np.maximum(np.minimum(k, n_positive), 1)
        values[f"map_hits@{k}"] = precision_sum / np.maximum(hits, 1)
    return values
