"""``rlrf4rec infer``: the user list. What is written is tested in tests/stages."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import Call

from rlrf4rec.cli.infer import _user_ids


@pytest.mark.parametrize("content", ["u1\nu 2,x\n\n", "u1\r\nu 2,x", "\ufeffu1\nu 2,x"])
def test_users_come_from_a_file_one_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "users.txt").write_bytes(content.encode())
    assert _user_ids(f"@{tmp_path / 'users.txt'}") == ["u1", "u 2,x"]


def test_users_come_from_the_command_line() -> None:
    assert _user_ids("u1, u2,,") == ["u1", "u2"]


def test_a_missing_file_of_users_is_named(call: Call, run_folder: Path) -> None:
    result = call("infer", run_folder, "--users", "@gone.txt")
    assert result.exit_code == 2
    assert "gone.txt" in result.stderr
