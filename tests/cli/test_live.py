"""Progress: how far, how fast, how long still; worked by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from rlrf4rec.cli.live import Lines, Live, Pace, clock, finished_line, open_reporter


def test_speed_counts_from_the_first_report() -> None:
    """40 texts were there at 10 s (an earlier attempt's); 20 more in 5 s: 4/s, 40 left: 10 s."""
    pace = Pace("texts")
    assert str(pace) == "starting"
    pace.update(10.0, 40, 100)
    assert pace.per_second is None
    assert str(pace) == "40/100 texts"
    pace.update(15.0, 60, 100)
    assert pace.per_second == pytest.approx(4.0)
    assert pace.seconds_left == pytest.approx(10.0)
    assert str(pace) == "60/100 texts, 4 texts/s, 10 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (3600, "1:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_says_what_was_done_or_kept() -> None:
    worked = Pace("texts")
    worked.update(1.0, 1000, 1000)
    assert finished_line("round-0/base/samples", worked, 151).split(maxsplit=1)[1] == (
        "done in 2:31, 1,000 texts"
    )
    assert finished_line("prompts", Pace("users"), 3).split(maxsplit=1)[1] == "kept (3 s)"
    assert finished_line("deployed", None, 3).split(maxsplit=1)[1] == "done in 3 s"


def test_pipes_get_one_line_a_stage_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with open_reporter(quiet=False) as reporter:
        assert type(reporter) is Lines
        on_progress = reporter.start("round-0/base/samples", "texts")
        on_progress(0, 8)
        on_progress(8, 8)
        reporter.finish("round-0/base/samples", 2.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.split() == ["round-0/base/samples", "done", "in", "2", "s,", "8", "texts"]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_reporter(quiet=True) as reporter:
        reporter.start("prompts", "users")(1, 1)
        reporter.finish("prompts", 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_stage_at_work_and_drops_it_when_finished() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    columns = TextColumn("{task.description}"), TextColumn("{task.fields[pace]}")
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        live = Live(progress)
        live.start("tuning", "steps")(3, 12)
        progress.refresh()
        assert "3/12 steps" in screen.getvalue()
        live.finish("tuning", 5.0)
        assert not progress.tasks
    assert "done in 5 s, 3 steps" in screen.getvalue()
