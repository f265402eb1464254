"""The foreseen part of a reward, on rewards made from a rule."""

from __future__ import annotations

import numpy as np
import pytest

from rlrf4rec.feedback import foreseen_rewards
from rlrf4rec.records import Float32Array, FloatArray, IntArray

N_USERS, N_TEXTS, DIM = 120, 6, 8


@pytest.fixture(scope="module")
def world() -> tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray]:
    """Users, texts, profiles, items, and each text's likeness to its user's profile."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(200, DIM)).astype(np.float32)
    profiles = rng.normal(size=(N_USERS, DIM)).astype(np.float32)
    texts = rng.normal(size=(N_USERS * N_TEXTS, DIM)).astype(np.float32)
    users = np.repeat(np.arange(N_USERS), N_TEXTS)
    return users, texts, profiles, items, (texts * profiles[users]).sum(1).astype(np.float64)


def _within(values: FloatArray) -> FloatArray:
    by_user = values.reshape(N_USERS, N_TEXTS)
    return (by_user - by_user.mean(1, keepdims=True)).ravel()


def test_finds_the_rule_under_noise(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    """Noise with twice the rule's spread: the measured reward says less than the foreseen one."""
    users, texts, profiles, items, rule = world
    noise = np.random.default_rng(1).normal(size=len(rule)) * 2 * rule.std()
    rewards = rule + noise + 100.0 * users
    found = foreseen_rewards(rewards, users, texts, profiles, items, seed=0)
    foreseen = np.corrcoef(found, _within(rule))[0, 1]
    measured = np.corrcoef(_within(rewards), _within(rule))[0, 1]
    assert measured < 0.5
    assert foreseen > 0.8


def test_a_user_s_own_rewards_are_not_looked_at(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    users, texts, profiles, items, rule = world
    changed = rule.copy()
    changed[users == 7] = [9.0, -9.0, 5.0, -5.0, 1.0, 0.0]
    before = foreseen_rewards(rule, users, texts, profiles, items, seed=0)
    after = foreseen_rewards(changed, users, texts, profiles, items, seed=0)
    np.testing.assert_allclose(after[users == 7], before[users == 7], atol=1e-12)
    assert not np.allclose(after[users != 7], before[users != 7])


def test_pure_chance_foretells_next_to_nothing(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    users, texts, profiles, items, rule = world
    chance = np.random.default_rng(2).normal(size=len(rule))
    found = foreseen_rewards(chance, users, texts, profiles, items, seed=0)
    # Below zero is possible: what is high by chance in one fold is low in all the others.
    assert np.corrcoef(found, _within(chance))[0, 1] < 0.1


def test_texts_without_a_reward_are_predicted_and_not_learned_from(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    users, texts, profiles, items, rule = world
    missing = rule.copy()
    missing[::5] = np.nan
    found = foreseen_rewards(missing, users, texts, profiles, items, seed=0)
    assert np.isfinite(found).all()
    assert np.corrcoef(found[::5], _within(rule)[::5])[0, 1] > 0.8


def test_every_user_s_mean_is_zero_and_the_order_of_texts_does_not_matter(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    users, texts, profiles, items, rule = world
    found = foreseen_rewards(rule, users, texts, profiles, items, seed=0)
    assert found.reshape(N_USERS, N_TEXTS).mean(1) == pytest.approx(0, abs=1e-9)
    order = np.random.default_rng(3).permutation(len(rule))
    turned = foreseen_rewards(rule[order], users[order], texts[order], profiles, items, seed=0)
    np.testing.assert_allclose(turned, found[order], atol=1e-6)


def test_nothing_to_learn_from_foretells_nothing(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    users, texts, profiles, items, rule = world
    found = foreseen_rewards(np.full_like(rule, np.nan), users, texts, profiles, items, seed=0)
    assert (found == 0).all()


def test_what_a_text_is_worth_to_everybody_foretells_nothing(
    world: tuple[IntArray, Float32Array, Float32Array, Float32Array, FloatArray],
) -> None:
    """A reward that is the same function of the text for all users says nothing about a user."""
    users, texts, profiles, items, _ = world
    common = texts[:, 0].astype(np.float64)
    found = foreseen_rewards(common, users, texts, profiles, items, seed=0)
    assert np.corrcoef(found, _within(common))[0, 1] < 0.1
