"""The frame of `make bench`: what a row says, and the results file."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import bench
from speed.limit import Product, copy_bytes_per_second, product_seconds
from speed.measure import Row, in_turn, medians


def test_a_row_is_judged_by_its_median() -> None:
    """Of 1, 9 and 6 the median is 6."""
    assert Row("fast", [1.0, 9.0, 6.0], target=6.0).ok
    assert not Row("fast", [1.0, 9.0, 5.9], target=6.0).ok
    assert Row("small", [1.0, 9.0, 0.4], target=1.0, at_most=True).ok
    assert not Row("small", [2.0, 9.0, 0.4], target=1.0, at_most=True).ok


def test_what_bench_json_says_of_a_row() -> None:
    row = Row("fast", [1.0, 9.0, 6.0], target=8.0, details={"seconds": 2.0}).to_json()
    assert row == {
        "name": "fast",
        "ratio": 6.0,
        "target": 8.0,
        "ok": False,
        "spread": [1.0, 9.0],
        "unit": "×",
        "at_most": False,
        "details": {"seconds": 2.0},
    }


def test_both_are_measured_in_turn() -> None:
    calls: list[str] = []
    rounds = in_turn(lambda: calls.append("ours"), lambda: calls.append("theirs"), 2)
    assert calls == ["ours", "theirs", "ours", "theirs"]
    assert all(seconds >= 0 for both in rounds for seconds in both)
    assert medians([(1.0, 10.0), (3.0, 30.0), (2.0, 50.0)]) == (2.0, 30.0)


def test_a_measured_row_takes_its_place_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "bench.json")
    for name, ratio in (("import_seconds", 1.0), ("dpo_vs_trl", 2.0), ("import_seconds", 3.0)):
        bench.store(Row(name, [ratio], target=1.0))
    stored = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["name"], row["ratio"]) for row in stored["rows"]] == [
        ("dpo_vs_trl", 2.0),
        ("import_seconds", 3.0),
    ]
    assert "cores" in stored["machine"]
    assert {row["machine"] for row in stored["rows"]} == {stored["machine"]}


def test_a_row_that_fails_keeps_its_place_and_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> Row:
        raise RuntimeError("losses differ")

    fast = partial(Row, "import_seconds", [2.0], target=1.0)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "bench.json")
    bench.store(Row("dpo_vs_trl", [9.0], target=8.0))
    monkeypatch.setattr(bench, "KINDS", {"dpo_vs_trl": failing, "import_seconds": fast})
    assert bench.main([]) == 1
    stored = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [(row["name"], row["ratio"]) for row in stored] == [
        ("dpo_vs_trl", 9.0),
        ("import_seconds", 2.0),
    ]
    assert "dpo_vs_trl               FAILED RuntimeError: losses differ" in capsys.readouterr().out
    assert bench.main(["import_seconds"]) == 0


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown rows nothing; there are sample_vs_transformers"):
        bench.main(["nothing"])


def test_operations_and_speeds() -> None:
    """``[2, 3] @ [3, 5]``: 30 products and as many sums, ten times."""
    product = Product(2, 3, 5, times=10)
    assert product.operations == 600
    assert product_seconds([product], torch.float32) > 0
    assert copy_bytes_per_second(2**16) > 0
