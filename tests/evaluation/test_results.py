import json

import pytest
from pydantic import ValidationError

from rlrf4rec.errors import WorkspaceError
from rlrf4rec.evaluation.results import (
    Cell,
    SystemRow,
    TableRow,
    backbones,
    order_systems,
    read_results,
    results_table,
    write_results,
)

ROW = {"system": "id", "backbone": "prm", "metric": "ndcg@5", "n_users": 2, "n_lists": 4}


def test_written_results_read_back_equal(tmp_path, results):
    path = tmp_path / "run" / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_the_contract_of_the_file(tmp_path, results):
    write_results(tmp_path / "results.json", results)
    raw = json.loads((tmp_path / "results.json").read_text())
    assert raw["version"] == 1
    keys = {"dataset", "lists", "folds", "seeds", "n_users", "n_lists", "systems", "comparisons"}
    assert keys | {"rewards", "seconds", "config", "n_lists_without_positive"} <= raw.keys()
    assert {"system", "backbone", "metric", "mean", "ci95"} <= raw["systems"][0].keys()
    assert {"a", "b", "backbone", "metric", "diff", "ci95", "p"} <= raw["comparisons"][0].keys()
    assert raw["rewards"][0].keys() == {
        "round", "split", "mean", "best", "worst", "structure_ok", "spread", "reliability",
    }  # fmt: skip
    assert raw["rewards"][0]["structure_ok"] is None
    assert raw["config"]["alignment"]["learning_rate"] == 5e-7  # settings are not rounded


def test_keys_of_a_later_release_are_passed_over(tmp_path, results):
    path = tmp_path / "results.json"
    write_results(path, results)
    raw = json.loads(path.read_text())
    raw["added"] = raw["systems"][0]["added"] = 1
    path.write_text(json.dumps(raw))
    assert read_results(path) == results


def test_equal_results_give_equal_files(tmp_path, results):
    backwards = results.model_copy(
        update={"seconds": dict(reversed(list(results.seconds.items())))}
    )
    write_results(tmp_path / "a.json", results)
    write_results(tmp_path / "b.json", backwards)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_floats_are_rounded_and_finite():
    row = SystemRow(**ROW, kind="popular", mean=0.12345678, ci95=(-1e-9, 0.2))
    assert row.mean == 0.123457
    assert str(row.ci95[0]) == "0.0"
    with pytest.raises(ValidationError):
        SystemRow(**ROW, kind="popular", mean=float("nan"), ci95=None)


def test_table_has_systems_in_order_and_backbones_as_columns(results):
    table = results_table(results, "ndcg@5")
    assert backbones(results) == ["dlcm", "prm", "setrank"]
    assert [row.system for row in table] == [
        "random", "popularity", "id", "profile", "history_text", "llm_zero_shot", "shuffled",
        "random_pairs", "untuned", "best_of_n", "tuned_round_1", "tuned_round_2",
    ]  # fmt: skip
    assert table[0] == TableRow("random", (Cell(0.384, (0.38, 0.388)),) * 3)
    assert [cell.mean for cell in table[2].cells] == [0.57, 0.574, 0.578]
    uniform = results_table(results, "ndcg@5", kind="uniform")
    assert uniform[0].cells[0].mean == pytest.approx(0.524)


def test_a_system_missing_for_a_backbone_has_an_empty_cell(results):
    rows = [
        SystemRow(**ROW, kind="popular", mean=0.5, ci95=None),
        SystemRow(
            **{**ROW, "backbone": "dlcm", "system": "own"}, kind="popular", mean=0.4, ci95=None
        ),
    ]
    table = results_table(results.model_copy(update={"systems": rows}), "ndcg@5")
    assert table == [
        TableRow("id", (Cell(0.5, None), None)),
        TableRow("own", (None, Cell(0.4, None))),
    ]


def test_cells_without_an_interval_or_a_mean():
    assert Cell(0.5, None).text == "0.500"
    assert Cell(None, None).text == "n/a"


def test_every_known_system_comes_before_unknown_ones():
    names = ["zebra", "alpaca", "tuned_round_1", "best_of_n", "first_stage", "popularity"]
    assert order_systems(names) == [
        "popularity", "first_stage", "best_of_n", "tuned_round_1", "alpaca", "zebra",
    ]  # fmt: skip
    variants = ["tuned_round_2", "tuned_round_1_mean", "tuned_round_1_with_history"]
    variants += ["tuned_round_1_mean_with_history"]
    assert order_systems(reversed(variants)) == variants


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "to be JSON"),
        ("[]", "version None"),
        ('{"version": 99}', "version 99"),
        ('{"version": 1}', "dataset: Field required"),
    ],
)
def test_files_that_are_not_results_are_refused(tmp_path, text, problem):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(WorkspaceError, match=problem):
        read_results(tmp_path / "results.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WorkspaceError, match=r"nowhere\.json"):
        read_results(tmp_path / "nowhere.json")
