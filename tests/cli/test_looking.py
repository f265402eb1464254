"""The commands that look: ``validate``, ``data describe``, ``doctor``, and the results table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from calling import Call

from rlrf4rec.cli.console import safe, show_results
from rlrf4rec.evaluation.results import read_results


def test_validate_says_what_would_run(call: Call, config_file: Path) -> None:
    """6 users times N=10 texts; 12 - 6 read = 6 feedback interactions: one chunk of 4 each."""
    result = call("validate", config_file, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["ok"]
    assert (plan["users"], plan["items"], plan["interactions"]) == (6, 40, 72)
    assert plan["lists"] == {"popular": 6}
    assert plan["dropped"] == {}
    assert plan["texts before tuning"] == 60
    assert plan["trainings a system"] == 9  # 3 backbones, 3 seeds, 1 fold
    assert call("validate", config_file).stdout.splitlines()[-1] == "ok"


def test_validate_says_what_is_left_out(call: Call, config_file: Path) -> None:
    log = config_file.parent / "log.csv"
    log.write_text(log.read_text() + "\nu0,,3\nu1,gone,3\n", encoding="utf-8")
    result = call("validate", config_file)
    assert "missing item id: 1" in result.stdout
    assert "item not in catalogue: 1" in result.stdout
    assert json.loads(call("validate", config_file, "--json").stdout)["dropped"] == {
        "missing item id": 1,
        "item not in catalogue": 1,
    }


def test_validate_shows_what_the_llm_reads(call: Call, config_file: Path) -> None:
    """u0's reading history is items 0 to 5, rated 3, 4, 5, 3, 4, 5: four of them are liked."""
    result = call("validate", config_file, "--prompt", "--json")
    prompt = json.loads(result.stdout)["prompt"]
    question = prompt.rpartition("<|im_start|>user")[2]
    assert [n for n in range(40) if f"Title {n}\n" in question] == [1, 2, 4, 5]
    assert prompt in call("validate", config_file, "--prompt").stdout
    assert "prompt" not in json.loads(call("validate", config_file, "--json").stdout)


without_a_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("generation.n_sample=4", "generation.n_sample"),
        ("data.items=gone.csv", "gone.csv"),
        ("prompt.template=gone.yaml", "gone.yaml"),
        ("prompt.max_tokens=64", "prompt.max_tokens=64"),
        ("no-sign", "no-sign"),
        ("model.name=/no/such/model", "/no/such/model"),
        ("knowledge.encoder=packaged/typo", "packaged/typo"),
        ("data.positive_rating=6", "log's highest rating 5"),
        pytest.param("machine.device=cuda", "a CUDA device", marks=without_a_gpu),
        ("recommender.n_heads=3", "n_heads (3)"),
        ("evaluation.backbones=[no.such:Model]", "No module named"),
        ("reward.backbone=rlrf4rec.recommenders.base:Reranker", "abstract class Reranker"),
    ],
)
def test_validate_names_what_is_wrong(
    call: Call, config_file: Path, setting: str, named: str
) -> None:
    result = call("validate", config_file, "--set", setting)
    assert result.exit_code == 2
    assert named in result.stderr
    assert "ok" not in result.stdout


def test_describe_counts_the_log(call: Call, config_file: Path) -> None:
    facts = json.loads(call("data", "describe", config_file, "--json").stdout)
    assert (facts["users"], facts["lists"]) == (6, 6)
    text = call("data", "describe", config_file, "--set", "data.name=other").stdout
    assert "interactions" in text
    assert "other" in text


def test_doctor_finds_python_and_fails_only_for_what_is_missing(call: Call) -> None:
    result = call("doctor", "--json")
    report = json.loads(result.stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    missing = [name for name, one in findings.items() if one["needed"] and one["found"] is None]
    assert findings["python"]["found"].startswith("3.")
    assert report["ok"] == (not missing)
    assert result.exit_code == (1 if missing else 0)


def test_doctor_names_a_cache_that_cannot_be_written(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path / "file" / "cache"))
    result = call("doctor")
    assert result.exit_code == 1
    assert "MISSING  cache folder" in result.stdout
    assert "RLRF4REC_CACHE" in result.stdout


def test_results_are_shown_as_in_the_report(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_results(read_results(run_folder / "results.json"), run_folder)
    lines = capsys.readouterr().out.splitlines()
    assert "NDCG@5" in lines[0]
    assert any(line.split() == ["ID", "only", "0.571", "±", "0.020"] for line in lines)
    assert any(line.split()[:2] == ["Random", "order"] for line in lines)
    assert lines[-1].endswith("report.html")


def test_markup_in_data_is_shown_as_it_is(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = read_results(run_folder / "results.json")
    evil = results.systems[1].model_copy(update={"system": "[bold]:smile:\x1b[2J[/bold]"})
    show_results(
        results.model_copy(update={"systems": [evil], "dataset": "\x1b]0;title\x07"}), run_folder
    )
    shown = capsys.readouterr().out
    assert "[bold]:smile:[U+001B][2J[/bold]" in shown
    assert "\x1b" not in shown


def test_safe_text_keeps_other_scripts() -> None:
    assert safe("Am\u00e9lie \u5343\u3068\u5343\u5c0b") == "Am\u00e9lie \u5343\u3068\u5343\u5c0b"
