"""The reward to be expected of a text: worked out by hand, and on rewards made from a rule."""

from __future__ import annotations

import numpy as np
import pytest

from rlrf4rec.feedback import expected_rewards
from rlrf4rec.records import FloatArray, IntArray

USERS = np.array([0, 0, 1, 1])
NOTHING = np.zeros(4)


def _halves(even: list[float], odd: list[float]) -> FloatArray:
    return np.array([even, odd]).T


def test_the_part_that_repeats_itself_is_believed_by_the_number_of_lists() -> None:
    """Repeats 1.5 x 0.5 = 0.75; in a half (1.5² + 0.5²) / 2 = 1.25, so 0.5 of it is chance.

    A half has 2 and 6 lists: the noise of one list is 0.5 / mean(1/2, 1/6) = 1.5. User 0 (4 lists)
    is believed at 0.75 / (0.75 + 1.5 / 4) = 2/3, user 1 (12 lists) at 0.75 / (0.75 + 1.5 / 12).
    """
    found = expected_rewards(
        np.array([-1.0, -3.0, 5.0, 7.0]),
        _halves([-0.5, -3.5, 4.5, 7.5], [-1.5, -2.5, 5.5, 6.5]),
        np.array([4, 4, 12, 12]),
        USERS,
        NOTHING,
    )
    np.testing.assert_allclose(found, [2 / 3, -2 / 3, -6 / 7, 6 / 7])


def test_what_is_foreseen_too_small_is_stretched() -> None:
    rewards = np.array([1.0, -1.0, -3.0, 3.0])
    found = expected_rewards(
        rewards, np.stack([rewards, rewards], axis=1), np.full(4, 4), USERS, rewards / 2
    )
    np.testing.assert_allclose(found, rewards)


@pytest.mark.parametrize(
    "halves",
    [
        pytest.param(_halves([2.0, 0.0, 0.0, 2.0], [0.0, 2.0, 2.0, 0.0]), id="they contradict"),
        pytest.param(_halves([np.nan] * 4, [1.0, 0.0, 0.0, 1.0]), id="no user has both"),
    ],
)
def test_without_anything_that_repeats_itself_the_foreseen_part_is_left(halves: FloatArray) -> None:
    """Reward (1, -1) foreseen as (0.5, -0.5), and once the other way round: slope 1.2."""
    foreseen = np.array([0.5, -0.5, -0.1, 0.1])
    rewards = np.array([1.0, -1.0, 1.0, -1.0])
    slope = (2 * 0.5 - 2 * 0.1) / (2 * 0.25 + 2 * 0.01)
    found = expected_rewards(rewards, halves, np.full(4, 4), USERS, foreseen)
    np.testing.assert_allclose(found, slope * foreseen)


def test_a_text_that_was_not_scored_is_only_foreseen() -> None:
    rewards = np.array([1.0, -1.0, np.nan, 1.0, -1.0])
    users, n_lists = np.array([0, 0, 0, 1, 1]), np.array([4, 4, 0, 4, 4])
    foreseen = np.array([0.5, -0.5, 0.3, 0.5, -0.5])
    found = expected_rewards(rewards, np.stack([rewards] * 2, axis=1), n_lists, users, foreseen)
    np.testing.assert_allclose(found, 2 * foreseen)


def _made(n_users: int, n_texts: int) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Users with 2 to 200 lists; each text's foreseen part, and what it is truly worth."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(n_users), n_texts)
    n_lists = np.repeat(2 * rng.integers(1, 101, n_users), n_texts)
    foreseen, rest = rng.normal(size=(2, n_users, n_texts))
    foreseen -= foreseen.mean(axis=1, keepdims=True)
    return users, n_lists, foreseen.ravel(), (foreseen + rest).ravel()


def test_nearer_to_the_truth_than_what_is_foreseen_or_measured() -> None:
    users, n_lists, foreseen, truth = _made(400, 6)
    noise = np.random.default_rng(1).normal(size=(2, len(truth))) * 6 / np.sqrt(n_lists / 2)
    halves = (truth + noise).T
    rewards = halves.mean(axis=1)
    found = expected_rewards(rewards, halves, n_lists, users, foreseen)

    def error(values: FloatArray) -> float:
        by_user = (values - truth).reshape(400, 6)
        return float((by_user - by_user.mean(axis=1, keepdims=True)).var())

    assert error(found) < 0.6 * min(error(foreseen), error(rewards))
    order = np.random.default_rng(2).permutation(len(truth))
    turned = expected_rewards(
        rewards[order], halves[order], n_lists[order], users[order], foreseen[order]
    )
    np.testing.assert_allclose(turned, found[order])
