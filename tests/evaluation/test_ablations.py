"""An ablation's tables, from hand-made results."""

from __future__ import annotations

import json
from pathlib import Path

from rlrf4rec.evaluation.ablations import (
    Ablations,
    Axis,
    VariantRow,
    ablations_markdown,
    variant_row,
    write_ablations,
)
from rlrf4rec.evaluation.results import ComparisonRow, Results, RewardRow, SystemRow

COUNTS = {"n_users": 4, "n_lists": 8}


def _system(name: str, mean: float, metric: str = "ndcg@5", kind: str = "popular") -> SystemRow:
    return SystemRow(
        system=name,
        backbone="prm",
        metric=metric,
        mean=mean,
        ci95=(mean - 0.01, mean + 0.01),
        kind=kind,
        **COUNTS,
    )


def _difference(a: str, b: str, diff: float) -> ComparisonRow:
    return ComparisonRow(
        a=a,
        b=b,
        backbone="prm",
        metric="ndcg@5",
        diff=diff,
        ci95=(diff - 0.01, diff + 0.02),
        p=0.04,
        kind="popular",
        **COUNTS,
    )


RESULTS = Results(
    dataset="small",
    lists="popular",
    folds=1,
    seeds=[0],
    n_users=4,
    n_lists=8,
    systems=[
        _system("random", 0.3),
        _system("untuned", 0.5),
        _system("tuned_round_1", 0.52),
        _system("tuned_round_2", 0.53),
        _system("untuned", 0.9, metric="ndcg@1"),
        _system("untuned", 0.8, kind="uniform"),
    ],
    comparisons=[
        _difference("tuned_round_1", "untuned", 0.02),
        _difference("tuned_round_2", "untuned", 0.03),
        _difference("tuned_round_2", "id", 0.2),
    ],
    rewards=[
        RewardRow(round=0, split="train", mean=9, best=9, worst=9, structure_ok=0.9),
        RewardRow(round=0, split="test", mean=-1.5, best=-1, worst=-2, structure_ok=0.5),
        RewardRow(round=1, split="test", mean=-1.4, best=-1, worst=-2, structure_ok=0.6),
        RewardRow(round=2, split="test", mean=-1.3, best=-1, worst=-2, structure_ok=0.75),
    ],
    seconds={"generate/0": 1000.0, "tune/1": 234.4},
    config={},
)

MADE = variant_row(
    RESULTS,
    "ndcg@5",
    variant="smooth",
    baseline=True,
    settings={"reward.metric": "log_likelihood"},
    run="baseline",
)
FAILED = VariantRow(
    variant="wide", baseline=False, settings={"reward.margin": 9.0}, failed="too few\n| pairs"
)


def _ablations(*rows: VariantRow) -> Ablations:
    axis = Axis(axis="reward", variants=list(rows))
    return Ablations(dataset="small", lists="popular", metric="ndcg@5", axes=[axis])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def test_a_row_keeps_the_main_metric_on_the_primary_lists() -> None:
    assert [(row.system, row.mean) for row in MADE.systems] == [
        ("random", 0.3),
        ("untuned", 0.5),
        ("tuned_round_1", 0.52),
        ("tuned_round_2", 0.53),
    ]
    assert [row.a for row in MADE.comparisons] == ["tuned_round_1", "tuned_round_2"]
    assert [row.round for row in MADE.rewards] == [0, 1, 2]
    assert MADE.seconds == 1234.4


def test_the_table_has_the_last_round_against_the_untuned_llm() -> None:
    lines = ablations_markdown(_ablations(MADE)).splitlines()
    head, _, row = lines[lines.index("## reward") + 2 :]
    assert dict(zip(_cells(head), _cells(row), strict=True)) == {
        "variant": "smooth (baseline)",
        "reranker": "PRM",
        "`untuned`": "0.500 ± 0.010",
        "`tuned_round_1`": "0.520 ± 0.010",
        "`tuned_round_2`": "0.530 ± 0.010",
        "difference": "+0.030 (+0.020 to +0.050), p = 0.040",
        "held-out reward": "-1.500 → -1.300",
        "well-formed": "0.500 → 0.750",
        "seconds": "1,234",
    }


def test_a_failure_stays_in_its_cell() -> None:
    lines = ablations_markdown(_ablations(MADE, FAILED)).splitlines()
    assert _cells(lines[-1])[:2] == ["wide", "failed: too few ¦ pairs"]
    assert len(_cells(lines[-1])) == len(_cells(lines[-2]))


def test_the_json_can_be_read_back(tmp_path: Path) -> None:
    ablations = _ablations(MADE, FAILED)
    write_ablations(tmp_path, ablations)
    raw = json.loads((tmp_path / "ablations.json").read_text())
    assert Ablations.model_validate(raw) == ablations
    assert (tmp_path / "ablations.md").read_text() == ablations_markdown(ablations)
