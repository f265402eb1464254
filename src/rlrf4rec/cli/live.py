"""Progress of a run: a live bar on a terminal, one line per finished stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from rlrf4rec.progress import OnProgress, Reporter, Silent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass
class Pace:
    """How far a stage is and how fast it goes.

    Attributes:
        unit: what is counted.
        done: how many are done; None before the first report.
        total: of how many.
    """

    unit: str
    done: int | None = None
    total: int = 0
    _first: tuple[float, int] = field(default=(0.0, 0))
    _last: float = 0.0

    def update(self, now: float, done: int, total: int) -> None:
        """Take in a report at the time ``now`` (seconds)."""
        # From the first report on: what an earlier attempt left, and loading, are no speed.
        if self.done is None:
            self._first = (now, done)
        self.done, self.total, self._last = done, total, now

    @property
    def per_second(self) -> float | None:
        """Units a second since the first report; None while that cannot be told."""
        start, before = self._first
        if self.done is None or self.done <= before or self._last <= start:
            return None
        return (self.done - before) / (self._last - start)

    @property
    def seconds_left(self) -> float | None:
        """None while the speed is not known."""
        speed = self.per_second
        return None if speed is None or self.done is None else (self.total - self.done) / speed

    def __str__(self) -> str:
        if self.done is None:
            return "starting"
        text = f"{self.done:,}/{self.total:,} {self.unit}"
        if self.per_second is not None and self.seconds_left is not None:
            text += f", {self.per_second:.3g} {self.unit}/s, {clock(self.seconds_left)} left"
        return text


class Lines:
    """Tells of each stage when it is finished, in one line on stderr."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def start(self, stage: str, unit: str) -> OnProgress:
        """See `Reporter.start`."""
        pace = self._paces[stage] = Pace(unit)
        return lambda done, total: pace.update(time.monotonic(), done, total)

    def finish(self, stage: str, seconds: float) -> None:
        """See `Reporter.finish`."""
        self.say(finished_line(stage, self._paces.pop(stage, None), seconds))

    def say(self, line: str) -> None:
        """Write a line."""
        typer.echo(line, err=True)


class Live(Lines):
    """The same, and a bar for the stage at work."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def start(self, stage: str, unit: str) -> OnProgress:
        """See `Reporter.start`."""
        count = super().start(stage, unit)
        pace = self._paces[stage]
        task = self._progress.add_task(stage, total=None, pace=str(pace))
        self._tasks[stage] = task

        def on_progress(done: int, total: int) -> None:
            count(done, total)
            self._progress.update(task, completed=done, total=total, pace=str(pace))

        return on_progress

    def finish(self, stage: str, seconds: float) -> None:
        """See `Reporter.finish`."""
        if stage in self._tasks:
            self._progress.remove_task(self._tasks.pop(stage))
        super().finish(stage, seconds)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, emoji=False)


@contextmanager
def open_reporter(*, quiet: bool) -> Iterator[Reporter]:
    """The reporter that fits where stderr goes."""
    if quiet:
        yield Silent()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[pace]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Live(progress)


def finished_line(stage: str, pace: Pace | None, seconds: float) -> str:
    """What is said of a finished stage.

    A stage that started and reported nothing was finished by an earlier run.
    """
    if pace is not None and pace.done is None:
        return f"{stage:<38} kept ({clock(seconds)})"
    amount = "" if pace is None or pace.done is None else f", {pace.done:,} {pace.unit}"
    return f"{stage:<38} done in {clock(seconds)}{amount}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(4.2), clock(151), clock(7260)
    ('4 s', '2:31', '2:01:00')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
