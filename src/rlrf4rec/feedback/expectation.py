"""The reward that a text can be expected to earn on lists that nobody has seen yet.

What histories foretell (`rlrf4rec.feedback.foresight`) is free of one user's chance, but it is only
a part of what sets two of his texts apart. Of the rest, a reward measured on many lists tells more
than one measured on few. So the rest is believed as far as it has been seen to repeat itself on
lists that share no feedback, given how many lists a user has: empirical Bayes (ours). It is the
best estimate of a text's worth; as a teacher it was no better than the foreseen part alone
(docs/concepts/evidence.md, lab book, 43 and 44).
"""

from __future__ import annotations

import numpy as np

from rlrf4rec.feedback.foresight import within
from rlrf4rec.records import FloatArray, IntArray


def expected_rewards(
    rewards: FloatArray,
    halves: FloatArray,
    n_lists: IntArray,
    users: IntArray,
    foreseen: FloatArray,
) -> FloatArray:
    """The expectation of each text's true reward, relative to its user's other texts.

    With ``r`` the reward less its user's mean, ``f`` the foreseen part and ``n`` the number of
    lists: ``a f + k (r - a f)``. ``a`` is the slope of ``r`` on ``f``, since a ridge regression
    foresees too little. ``k = t / (t + s / n)``, where ``t`` is the variance of ``r - a f`` that
    repeats itself, its covariance between two halves of the lists, and ``s`` the noise of one list.

    Args:
        rewards: ``[n]``, measured; NaN where a text was not scored.
        halves: ``[n, 2]``, the same on the lists of even and of odd feedback chunks; NaN where
            there is no such list. Without any user who has both, nothing is known to repeat itself
            and the foreseen part is all there is.
        n_lists: ``[n]``, lists that the reward is a mean over.
        users: ``[n]``, whose texts they are.
        foreseen: ``[n]``, see `rlrf4rec.feedback.foreseen_rewards`.

    Returns:
        ``[n]``; of a text that was not scored the foreseen part.
    """
    scored = ~np.isnan(rewards)
    measured, told = (within(values[scored], users[scored]) for values in (rewards, foreseen))
    slope = max(float(told @ measured) / float(told @ told), 0.0) if told.any() else 0.0
    expected = slope * foreseen
    both = ~np.isnan(halves).any(axis=1)
    if both.any():
        repeats, noise = _variances(halves[both], n_lists[both], users[both], expected[both])
        share = repeats / (repeats + noise / n_lists[scored]) if repeats > 0 else 0.0
        expected[scored] += share * (measured - slope * told)
    return expected


def _variances(
    halves: FloatArray, n_lists: IntArray, users: IntArray, expected: FloatArray
) -> tuple[float, float]:
    """Of what is not expected yet: the variance that repeats itself, and the noise of one list."""
    even, odd = within(halves - expected[:, None], users).T
    repeats = max(float(np.mean(even * odd)), 0.0)
    in_a_half = float(np.mean(even**2 + odd**2)) / 2
    return repeats, max(in_a_half - repeats, 0.0) / float(np.mean(2 / n_lists))
