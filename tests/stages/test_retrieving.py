"""The first stage as a stage of a run: who trains it, what it retrieves, what a kill costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rlrf4rec.config import Config, FoldsConfig, load_config
from rlrf4rec.data import make_folds
from rlrf4rec.data.folds import with_background
from rlrf4rec.recommenders import FittedRecommender, ListInputs
from rlrf4rec.stages import retrieving
from rlrf4rec.stages.retrieving import cross_fit
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace
from small_run import write_config, write_log

N_GROUPS = 4  # two halves, two recommender folds


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_log(tmp_path)
    path = write_config(tmp_path, tmp_path / "no-model")
    small = {"embedding_dim": 8, "hidden_dim": 8, "max_epochs": 2, "pool_size": 15}
    settings = [f"first_stage.{key}={value}" for key, value in small.items()]
    folds = ["folds.protocol=cross", "folds.recommender_folds=2"]
    return load_config(path, [*settings, *folds, "evaluation.kinds=[popular, first_stage]"])


def opened(config: Config, folder: Path) -> World:
    workspace = Workspace(folder)
    workspace.create()
    return open_world(config, workspace)


@pytest.mark.parametrize("protocol", ["cross", "split"])
def test_nobodys_feedback_trains_who_retrieves_for_them(protocol: str) -> None:
    settings = FoldsConfig(protocol=protocol, recommender_folds=3, test_share=0.2)
    folds = make_folds(30, settings, 0)
    served = np.zeros(30, dtype=int)
    for users, known in cross_fit(folds, 3, 0):
        served += users
        assert not (users & known).any()
        assert known.any()
        # Nor does it reach the other half's lists, on which the LLM is tuned that writes for them.
        assert len(np.unique(folds.half[known])) == 1
        if protocol == "cross":
            assert set(folds.half[users]) == set(folds.half[known])
            assert not set(folds.fold[users]) & set(folds.fold[known])
    assert (served == 1).all()


@pytest.mark.parametrize("protocol", ["cross", "split"])
def test_background_users_are_known_to_all_and_know_nobody_else(protocol: str) -> None:
    """With ``cross``: their lists reach both halves. With ``split`` all who train are one part."""
    settings = FoldsConfig(protocol=protocol, recommender_folds=3, test_share=0.2)
    written = np.arange(30) % 3 > 0
    folds = with_background(make_folds(20, settings, 0), written)
    served = np.zeros(30, dtype=int)
    for users, known in cross_fit(folds, 3, 0):
        served += users
        assert not (users & known).any()
        assert not (known & (folds.role == "test")).any()
        if users[written].any():
            assert known[~written | users].sum() >= (~written & ~users).sum() > 0
        if protocol == "cross":
            assert len(np.unique(folds.half[users])) == 1
            assert set(folds.half[known].tolist()) <= {-1, *folds.half[users].tolist()}
    assert (served == 1).all()


def test_lists_hold_the_catalogues_scores(config: Config, tmp_path: Path) -> None:
    """The stored first stages, read again, score every candidate as its list says."""
    world = opened(config, tmp_path / "run")
    assert world.first_stage is not None
    lists = world.lists("first_stage")
    assert lists.first_stage is not None
    inputs = ListInputs.from_numpy(world.histories, None, None, world.dataset.n_items)
    groups = cross_fit(world.folds, config.folds.recommender_folds, config.seed)
    for number, (users, _) in enumerate(groups):
        model = FittedRecommender.load(world.first_stage.folder / "models" / str(number))
        catalogue = model.score_catalogue(inputs, np.arange(world.dataset.n_users))
        mine = lists.select(users[lists.user])
        assert len(mine) and mine.first_stage is not None
        np.testing.assert_allclose(
            catalogue[mine.user[:, None], mine.items], mine.first_stage, atol=1e-5
        )


def test_candidates_are_retrieved_and_no_negative_was_touched(
    config: Config, tmp_path: Path
) -> None:
    world = opened(config, tmp_path / "run")
    lists, log = world.lists("first_stage"), world.dataset.interactions
    for user in range(world.dataset.n_users):
        touched = log.filter(pl.col("user") == user)["item"].to_list()
        read = set(world.histories.items[user].tolist())
        mine = lists.select(lists.user == user)
        for row in range(len(mine)):
            items = mine.items[row].tolist()
            assert len(set(items)) == config.lists.list_size
            start = int(world.histories.lengths[user]) + config.lists.chunk_size * mine.chunk[row]
            chunk = set(touched[start : start + config.lists.chunk_size])
            assert set(items) & set(touched) <= chunk - read


def test_feedback_changes_neither_its_own_users_candidates_nor_the_other_halfs(
    config: Config, tmp_path: Path
) -> None:
    """One user's feedback is turned round: who may not know it retrieves as before."""
    before = opened(config, tmp_path / "before")
    user = 3
    path = config.data.interactions
    assert path is not None
    log = pl.read_csv(path)
    mine = pl.col("user_id") == before.dataset.users["user_id"][user]
    feedback = mine & (pl.col("timestamp") >= int(before.histories.lengths[user]))
    # Another order, the same items: what is touched, and so what may be a negative, stays.
    log = log.with_columns(
        pl.when(feedback).then(100 - pl.col("timestamp")).otherwise("timestamp").alias("timestamp")
    )
    log.write_csv(path)
    after = opened(config, tmp_path / "after")
    folds = before.folds
    may_know = (folds.half == folds.half[user]) & (folds.fold != folds.fold[user])
    unchanged = [
        _pool(before, other) == _pool(after, other) for other in range(before.dataset.n_users)
    ]
    assert np.array(unchanged)[~may_know].all()
    assert not np.array(unchanged)[may_know].any()


def test_killed_between_groups_it_loses_one(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = opened(config, tmp_path / "undisturbed").lists("first_stage").to_frame()
    fit, fitted = retrieving._fit, []

    def dying(world: World, known: np.ndarray, seed: int) -> FittedRecommender:
        fitted.append(seed)
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return fit(world, known, seed)

    monkeypatch.setattr(retrieving, "_fit", dying)
    with pytest.raises(KeyboardInterrupt):
        opened(config, tmp_path / "killed")
    resumed = opened(config, tmp_path / "killed")
    assert len(fitted) == N_GROUPS + 1
    assert resumed.lists("first_stage").to_frame().equals(undisturbed)
    assert opened(config, tmp_path / "killed").first_stage == resumed.first_stage
    assert len(fitted) == N_GROUPS + 1


def test_other_lists_need_no_new_first_stage_and_it_makes_nothing_stale(
    config: Config, tmp_path: Path
) -> None:
    world = opened(config, tmp_path / "run")
    assert world.first_stage is not None
    longer = config.lists.model_copy(update={"list_size": 12})
    again = opened(config.model_copy(update={"lists": longer}), tmp_path / "run")
    assert again.first_stage == world.first_stage
    before, after = (one.listed_apart["first_stage"].key for one in (world, again))
    assert before != after
    only = config.evaluation.model_copy(update={"kinds": ["popular"]})
    without = opened(config.model_copy(update={"evaluation": only}), tmp_path / "other")
    assert without.first_stage is None and not without.listed_apart
    assert without.listed.key == world.listed.key
    assert world.list_stages("popular") == [world.listed]


def _pool(world: World, user: int) -> list[tuple[int, float]]:
    assert world.first_stage is not None
    found = world.first_stage.frame("retrieved.parquet")
    mine = found.filter((pl.col("user") == user) & ~pl.col("touched"))
    return list(mine.select("item", "score").iter_rows())
