"""``rlrf4rec rerank``: streams in, streams out."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from calling import Call

LINES = [
    '{"user_id": "u0", "candidates": ["i1", "i9", "new"]}',
    "",
    '{"history": [["i3", 5], ["new", null]], "candidates": ["i9", "i1"]}',
    '{"user_id": "nobody", "candidates": ["i20"]}',
]


def test_each_request_is_answered_in_order(call: Call, run_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "lists.jsonl"
    source.write_text("\n".join(LINES), encoding="utf-8")
    result = call("rerank", run_folder, "--input", source)
    assert result.exit_code == 0
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first["user_id"] == "u0"
    assert first["known_user"]
    assert [item["known"] for item in first["ranking"]] == [True, True, False]
    assert first["ranking"][2] == {"item_id": "new", "score": None, "known": False}
    assert second["user_id"] is None
    assert second["unknown_history_items"] == 1
    assert not third["known_user"]


def test_stdin_batches_and_files_give_the_same_answers(
    call: Call, run_folder: Path, tmp_path: Path
) -> None:
    text = "\n".join(LINES)
    together = call("rerank", run_folder, "--input", "-", text=text)
    single = call("rerank", run_folder, "-i", "-", "--batch-size", 1, text=text)
    out = tmp_path / "new" / "ranked.jsonl"
    to_file = call("rerank", run_folder, "-i", "-", "-o", out, text=text)
    assert together.exit_code == single.exit_code == to_file.exit_code == 0
    assert to_file.stdout == ""
    assert out.read_text(encoding="utf-8") == together.stdout

    def order(lines: str) -> list[list[str]]:
        answers = map(json.loads, lines.splitlines())
        return [[item["item_id"] for item in answer["ranking"]] for answer in answers]

    assert order(single.stdout) == order(together.stdout)


def test_a_bad_line_is_named_after_the_lines_before_it_are_answered(
    call: Call, run_folder: Path
) -> None:
    text = LINES[0] + '\n\n{"user_id": "u1", "candidates": []}\n' + LINES[3]
    result = call("rerank", run_folder, "--input", "-", text=text)
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 1
    assert "line 3" in result.stderr


def test_a_rating_on_another_scale_is_named_with_its_line(call: Call, run_folder: Path) -> None:
    """The log's ratings go from 1 to 5."""
    text = LINES[0] + '\n{"history": [["i1", 5], ["i2", 80]], "candidates": ["i3"]}\n'
    result = call("rerank", run_folder, "--input", "-", text=text)
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 1
    assert "80 at place 1 of the history (line 2)" in result.stderr


def test_a_file_is_written_whole_or_not_at_all(
    call: Call, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ranked.jsonl"
    result = call("rerank", run_folder, "-i", "-", "-o", out, text=LINES[0] + "\n{\n")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_and_leads_to_what_was_written(
    call: Call, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "target.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to("target.jsonl")
    result = call("rerank", run_folder, "-i", "-", "-o", tmp_path / "link.jsonl", text=LINES[0])
    assert result.exit_code == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert json.loads((tmp_path / "target.jsonl").read_text())["user_id"]


def test_a_pipe_is_written_to(call: Call, run_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        result = call("rerank", run_folder, "-i", "-", "-o", tmp_path / "pipe", text=LINES[0])
        assert json.loads(read.result(timeout=30))["user_id"]
    assert result.exit_code == 0
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("output", ["", ".", "a-file/ranked.jsonl"])
def test_where_no_file_can_be_is_said_before_anything_is_ranked(
    call: Call, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    result = call("rerank", run_folder, "-i", "-", "-o", output, text=LINES[0])
    assert result.exit_code == 2
    assert "a file to write to" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]


def test_a_missing_input_is_named(call: Call, run_folder: Path) -> None:
    result = call("rerank", run_folder, "--input", "no-such.jsonl")
    assert result.exit_code == 2
    assert "no-such.jsonl" in result.stderr


def test_an_empty_stream_is_answered_with_nothing(call: Call, run_folder: Path) -> None:
    result = call("rerank", run_folder, "--input", "-", text="\n")
    assert (result.exit_code, result.stdout) == (0, "")
