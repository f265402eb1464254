"""Whose texts a system reads."""

from __future__ import annotations

import numpy as np
import pytest

from rlrf4rec.records import Float32Array
from rlrf4rec.stages.systems import System, shuffled
from rlrf4rec.stages.trials import trial_of
from rlrf4rec.stages.world import World


@pytest.fixture(scope="module")
def own(world: World) -> System:
    """Two texts a user; user u's are rows u and u + n_users."""
    n_users, dim = world.dataset.n_users, world.item_vectors.shape[1]
    rows = np.arange(2 * n_users).reshape(2, n_users).T
    vectors: Float32Array = np.zeros((2 * n_users, dim), dtype=np.float32)
    return System("own", vectors, np.repeat(rows[:, None], 2, axis=1))


def test_shuffled_gives_everybody_one_other_user_s_texts(world: World, own: System) -> None:
    control = shuffled(world, own)
    assert control.reads is not None
    everyone = np.arange(world.dataset.n_users)
    assert (control.reads != everyone).all()
    assert sorted(control.reads) == everyone.tolist()
    np.testing.assert_array_equal(control.rows, own.rows[control.reads])


def test_practice_texts_are_the_same_user_s_as_the_texts(world: World, own: System) -> None:
    """In the control, too: otherwise it would learn from true texts and be tested on wrong ones."""
    practice = world.practice
    for system in (own, shuffled(world, own)):
        trial = trial_of(world, system, "popular", "prm", 0)
        assert system.vectors is not None
        reads = np.arange(world.dataset.n_users) if system.reads is None else system.reads
        expected = practice.rows[reads][trial.lists.user]
        found = np.where(trial.practice < 0, -1, trial.practice - len(system.vectors))
        np.testing.assert_array_equal(found, expected)
        assert trial.user_vectors is not None
        np.testing.assert_array_equal(trial.user_vectors[len(system.vectors) :], practice.vectors)


def test_a_system_without_text_has_no_practice_either(world: World) -> None:
    silent = System("id", None, np.full((world.dataset.n_users, 2, 1), -1))
    trial = trial_of(world, silent, "popular", "prm", 0)
    assert trial.user_vectors is None
    assert (trial.practice == -1).all()
    assert (trial.rows == -1).all()
