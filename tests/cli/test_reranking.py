"""``rlrf4rec rerank``: streams in, streams out."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_file_is_written_whole_or_not_at_all(
    call: Call, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ranked.jsonl"
    result = call("rerank", run_folder, "-i", "-", "-o", out, text=LINES[0] + "\n{\n")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_missing_input_is_named(call: Call, run_folder: Path) -> None:
    result = call("rerank", run_folder, "--input", "no-such.jsonl")
    assert result.exit_code == 2
    assert "no-such.jsonl" in result.stderr


def test_an_empty_stream_is_answered_with_nothing(call: Call, run_folder: Path) -> None:
    result = call("rerank", run_folder, "--input", "-", text="\n")
    assert (result.exit_code, result.stdout) == (0, "")
