"""Measuring in turn, and what a row of the table says."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: of the row.
        ratios: one a round; how many times faster than the peer, or as `unit` says.
        target: what the median should reach.
        at_most: the median should not exceed the target, rather than reach it.
        unit: of the ratios.
        details: what else was measured, for the table's last column and bench.json.
    """

    name: str
    ratios: list[float]
    target: float
    at_most: bool = False
    unit: str = "×"
    details: dict[str, float | str] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def to_json(self) -> dict[str, object]:
        """As in bench.json."""
        return {
            "name": self.name,
            "ratio": self.ratio,
            "target": self.target,
            "ok": self.ok,
            "spread": [min(self.ratios), max(self.ratios)],
            "unit": self.unit,
            "at_most": self.at_most,
            "details": self.details,
        }


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def finish(device: str) -> None:
    """Wait until a GPU has done what it was given: it works while Python goes on."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def in_turn(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> list[tuple[float, float]]:
    """Seconds of both in each round, one after the other, so that both meet the same machine."""
    return [(seconds(ours), seconds(theirs)) for _ in range(rounds)]


def medians(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """Of our seconds and of theirs."""
    ours, theirs = zip(*rounds, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def rates(what: str, count: int, rounds: list[tuple[float, float]]) -> dict[str, float | str]:
    """How many of ``what`` both did a second, as `Row.details`."""
    ours, theirs = medians(rounds)
    return {f"{what}_per_second": count / ours, f"peer_{what}_per_second": count / theirs}


def put(entry: dict[str, object], file: Path, names: Iterable[str]) -> None:
    """Put a row into a results file, in the place of one of its name, in the order of ``names``.

    Rows may come from several machines: each says from which (``machine``), the file of the last.
    """
    known = json.loads(file.read_text())["rows"] if file.exists() else []
    rows = {row["name"]: row for row in [*known, entry]}
    ordered = [rows[name] for name in names if name in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when whole: a kill while it is written loses nothing.
    aside = file.with_name(file.name + ".partial")
    aside.write_text(json.dumps({"machine": entry["machine"], "rows": ordered}, indent=1) + "\n")
    aside.replace(file)
