"""Whose texts a system reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rlrf4rec.config import FoldsConfig
from rlrf4rec.data import make_folds
from rlrf4rec.data.folds import with_background
from rlrf4rec.records import Float32Array
from rlrf4rec.stages import evaluating
from rlrf4rec.stages.systems import System, _best_of_n, best_rows, held_out_texts, shuffled
from rlrf4rec.stages.trail import Round
from rlrf4rec.stages.trials import trial_of
from rlrf4rec.stages.world import World
from rlrf4rec.workspace import Stage


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


def test_shuffled_never_gives_a_text_that_was_not_written(world: World, own: System) -> None:
    """Users who are written for exchange texts among themselves, and so do the others."""
    written = np.arange(world.dataset.n_users) % 4 > 0
    some = make_folds(int(written.sum()), FoldsConfig(), 0)
    control = shuffled(replace(world, folds=with_background(some, written)), own)
    assert control.reads is not None
    assert sorted(control.reads) == list(range(world.dataset.n_users))
    np.testing.assert_array_equal(written[control.reads], written)
    assert (control.reads != np.arange(world.dataset.n_users)).all()


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


HALVES = (0, 1)


@pytest.fixture
def crossed(world: World) -> World:
    """The same users, each tested by what was tuned on the other half."""
    return replace(world, folds=make_folds(world.dataset.n_users, FoldsConfig(), 0))


def _stage(folder: Path, name: str, frame: pl.DataFrame) -> Stage:
    folder.mkdir()
    frame.write_parquet(folder / name)
    return Stage(folder, folder.name, 0.0)


def _texts(half: int, n_users: int, **columns: list[float]) -> pl.DataFrame:
    """Two texts of everybody that say which policy wrote them."""
    texts = pl.DataFrame(
        [(user, n, f"by {half}, {n}") for user in range(n_users) for n in (0, 1)],
        schema={"user": pl.Int32, "sample": pl.Int32, "text": pl.String},
        orient="row",
    )
    return texts.with_columns(pl.Series(name, values * n_users) for name, values in columns.items())


def test_nobody_is_tested_with_a_text_by_the_policy_tuned_on_him(
    crossed: World, tmp_path: Path
) -> None:
    n_users = crossed.dataset.n_users
    samples = {
        half: _stage(tmp_path / str(half), "samples.parquet", _texts(half, n_users))
        for half in HALVES
    }
    found = held_out_texts(crossed, samples, 1)
    assert found["user"].to_list() == list(range(n_users))
    other = 1 - crossed.folds.half
    assert found["text"].to_list() == [f"by {half}, 0" for half in other]


def test_a_text_is_not_tested_on_the_feedback_it_was_chosen_by(
    crossed: World, tmp_path: Path
) -> None:
    """Text 0 earns most on even chunks, text 1 on odd ones: each is read on the other ones.

    Rewards are those of recommenders that learned from the other half.
    """
    n_users, metric = crossed.dataset.n_users, crossed.config.reward.metric
    rewards = {f"{metric}_even": [-1.0, -2.0], f"{metric}_odd": [-2.0, -1.0]}
    first = Round(0)
    for half in HALVES:
        frame = _texts(half, n_users, **rewards)
        first.judged[half] = _stage(tmp_path / f"judged-{half}", "rewards.parquet", frame)
        first.samples[half] = first.judged[half]
    system = _best_of_n(crossed, first)
    users = np.arange(n_users)
    np.testing.assert_array_equal(system.rows[:, 0, 0], 2 * users + 1)
    np.testing.assert_array_equal(system.rows[:, 1, 0], 2 * users)
    written = [f"by {1 - half}, {n}" for half in crossed.folds.half for n in (0, 1)]
    np.testing.assert_array_equal(system.vectors, crossed.encoder.encode(written))


def test_popularity_does_not_know_a_tested_user_s_feedback(world: World) -> None:
    before = evaluating.Tested.of_kind(world, "popular")
    user = int(before.lists.user[0])
    read = world.histories.lengths[user]
    mine = (pl.col("user") == user) & (pl.col("position") >= read)
    other_items = pl.when(mine).then((pl.col("item") + 1) % world.dataset.n_items)
    log = world.dataset.interactions.with_columns(other_items.otherwise("item").alias("item"))
    after = evaluating.Tested.of_kind(
        replace(world, dataset=replace(world.dataset, interactions=log)), "popular"
    )
    rows = before.lists.user == user
    np.testing.assert_array_equal(before.known[rows], after.known[rows])
    assert before.known[rows].any()


def test_where_none_is_rewarded_the_first_text_that_is_there_is_the_best() -> None:
    nothing = pl.Series([None, None, -1.0], dtype=pl.Float64)
    assert best_rows(np.array([[-1, 0, 1], [-1, -1, -1], [0, 2, 1]]), nothing).tolist() == [
        0,
        -1,
        2,
    ]


def test_a_system_without_text_has_no_practice_either(world: World) -> None:
    silent = System("id", None, np.full((world.dataset.n_users, 2, 1), -1))
    trial = trial_of(world, silent, "popular", "prm", 0)
    assert trial.user_vectors is None
    assert (trial.practice == -1).all()
    assert (trial.rows == -1).all()
