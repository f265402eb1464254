"""The command line as a whole: help, version, errors, interruption, start-up."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from calling import Call
from typer.testing import CliRunner

from rlrf4rec import __version__
from rlrf4rec.cli import app
from rlrf4rec.cli.app import Guarded
from rlrf4rec.errors import DataError, MissingPartError
from rlrf4rec.paths import cache_root

COMMANDS = [
    ["run"],
    ["ablate"],
    ["evaluate"],
    ["report"],
    ["rerank"],
    ["infer"],
    ["export"],
    ["validate"],
    ["doctor"],
    ["data"],
    ["data", "describe"],
]


def rlrf4rec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlrf4rec", *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_ends_with_examples_that_are_known_commands(call: Call, command: list[str]) -> None:
    """Each example is a whole line that the parser takes (``--help`` put behind it)."""
    shown = call(*command, "--help")
    assert shown.exit_code == 0
    examples = shown.stdout.split("Examples:\n")[1].replace("\\\n", " ").splitlines()
    lines = [line.strip() for line in examples if line.strip()]
    assert len(lines) >= 2
    for line in lines:
        words = line.split("rlrf4rec ", 1)[1].split()
        assert [words[0]] in COMMANDS
        options = [word for word in words if word.startswith("--")]
        known = call(*(words[:2] if words[0] == "data" else words[:1]), "--help").stdout
        assert all(option in known for option in options), line


def test_help_and_error_in_a_process_of_their_own() -> None:
    help_page = rlrf4rec("--help")
    assert help_page.returncode == 0
    assert "rlrf4rec run configs/demo.yaml" in help_page.stdout
    failed = rlrf4rec("run", "no-such.yaml")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.splitlines() == [
        "error",
        "  expected: a readable configuration file",
        "  found:    no-such.yaml (No such file or directory)",
        "  remedy:   Pass the path of a YAML file, for example configs/demo.yaml.",
    ]


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from rlrf4rec.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    heavy = ('torch', 'transformers', 'polars', 'numpy', 'pydantic')\n"
        "    print([name for name in heavy if name in sys.modules])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_version(call: Call) -> None:
    assert call("--version").stdout == f"rlrf4rec {__version__}\n"


def test_a_wrong_option_is_named(call: Call) -> None:
    result = call("run", "x.yaml", "--outptu", "y")
    assert result.exit_code == 2
    assert "--outptu" in result.stderr


def guarded(error: BaseException | Callable[[], None]) -> typer.Typer:
    """A command line of the same class whose one command fails, or does something."""
    failing = typer.Typer(cls=Guarded)

    @failing.callback()
    def root() -> None: ...

    @failing.command()
    def fail() -> None:
        if isinstance(error, BaseException):
            raise error
        error()

    return failing


def test_control_characters_of_an_error_are_written_out() -> None:
    error = DataError("a title", found="\x1b[31mred\x07 \u202eover", remedy="Mend row 3.")
    result = CliRunner().invoke(guarded(error), ["fail"])
    assert result.exit_code == 2
    assert "found:    [U+001B][31mred[U+0007] [U+202E]over" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupted_run_says_how_to_go_on() -> None:
    result = CliRunner().invoke(guarded(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert result.stderr.strip() == "stopped; run again to go on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_ctrl_c_does(number: int) -> None:
    """After what was begun is put away; nohup's deafness stays."""
    put_away: list[bool] = []

    def end_myself() -> None:
        try:
            signal.raise_signal(number)
        finally:
            put_away.append(True)

    # The tests themselves may be run by nohup.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        result = CliRunner().invoke(guarded(end_myself), ["fail"])
        assert (result.exit_code, put_away) == (128 + number, [True])
        assert result.stderr.strip() == "stopped; run again to go on"
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        assert CliRunner().invoke(guarded(end_myself), ["fail"]).exit_code == 0
    finally:
        signal.signal(number, before)


def test_want_of_memory_is_said_in_words() -> None:
    result = CliRunner().invoke(guarded(MemoryError()), ["fail"])
    assert result.exit_code == 2
    assert "expected: enough memory" in result.stderr
    assert "machine.processes" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_in_words() -> None:
    """In a process of its own: at its end Python writes what is left, and fails once more."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rlrf4rec", "doctor", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_without_a_home_the_cache_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLRF4REC_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    with pytest.raises(MissingPartError, match="RLRF4REC_CACHE"):
        cache_root()


def test_a_bug_keeps_its_traceback() -> None:
    result = CliRunner().invoke(guarded(ZeroDivisionError()), ["fail"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_no_command_shows_the_help(call: Call) -> None:
    assert "Commands:" in call().output


def test_what_is_no_run_is_refused_at_once(call: Call, tmp_path: Path) -> None:
    for command in (
        ["evaluate", tmp_path],
        ["report", tmp_path],
        ["rerank", tmp_path, "--input", "-"],
        ["infer", tmp_path, "--users", "u1"],
        ["export", tmp_path, "llm"],
    ):
        result = call(*command)
        assert result.exit_code == 2, command
        assert "no run.json" in result.stderr
        assert list(tmp_path.iterdir()) == []


def test_every_command_is_in_the_contract_above() -> None:
    root = typer.main.get_command(app)
    assert sorted(root.commands) == sorted({command[0] for command in COMMANDS})  # type: ignore[attr-defined]
