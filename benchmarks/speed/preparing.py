"""A large log to interactions and reading histories: ours, and the same in pandas.

Each measurement has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rlrf4rec.peak_memory import peak_megabytes
from speed.generated import write_log
from speed.measure import Row
from speed.preparations import WAYS

INTERACTIONS = int(os.environ.get("RLRF4REC_BENCH_INTERACTIONS", 20_000_000))
MEMORY_LIMIT_GB = 2.0

_PARTS = (20, 4, 2)  # the fit goes through these parts of the log and the whole
_ROUNDS = 3


@dataclass(frozen=True)
class Measured:
    """One process: wall-clock and processor seconds of the work, memory before it and at most."""

    seconds: float
    cpu: float
    base_gb: float
    peak_gb: float
    checksum: str


def vs_pandas() -> Row:
    """Our preparation of `INTERACTIONS` rows against pandas', and how ours grows with the rows.

    The ratio is to pandas step by step; ``ratio_codes_first`` is to pandas written for speed.

    Raises:
        AssertionError: the ways arrive at different interactions or histories.
    """
    with tempfile.TemporaryDirectory() as name:
        folders = {INTERACTIONS // part: Path(name, str(part)) for part in (*_PARTS, 1)}
        for n, folder in folders.items():
            folder.mkdir()
            _run("write", folder, n)
        whole = folders.pop(INTERACTIONS)
        rounds = [{way: _measure(way, whole) for way in WAYS} for _ in range(_ROUNDS)]
        parts = {n: _measure("ours", folder) for n, folder in folders.items()}
    if len({one.checksum for ways in rounds for one in ways.values()}) > 1:
        raise AssertionError("ours and pandas arrive at different interactions or histories")
    return _row(rounds, parts)


def _row(rounds: list[dict[str, Measured]], parts: dict[int, Measured]) -> Row:
    def median(way: str, value: str) -> float:
        return float(statistics.median(getattr(ways[way], value) for ways in rounds))

    def ratios(way: str) -> list[float]:
        return [ways[way].seconds / ways["ours"].seconds for ways in rounds]

    base = median("ours", "base_gb")
    seconds = {n: one.seconds for n, one in parts.items()}
    memory = {n: one.peak_gb - one.base_gb for n, one in parts.items()}
    details: dict[str, float | str] = {
        "interactions": float(INTERACTIONS),
        "ratio_codes_first": statistics.median(ratios("codes_first")),
        "exponent_time": _exponent(seconds | {INTERACTIONS: median("ours", "seconds")}),
        "exponent_memory": _exponent(memory | {INTERACTIONS: median("ours", "peak_gb") - base}),
    }
    for value in ("seconds", "cpu", "peak_gb"):
        details |= {f"{value}_{way}": median(way, value) for way in WAYS}
    if median("ours", "peak_gb") > MEMORY_LIMIT_GB:
        details["memory"] = f"above {MEMORY_LIMIT_GB:g} GB"
    return Row("prepare_vs_pandas", ratios("step_by_step"), target=5, details=details)


def _exponent(cost: dict[int, float]) -> float:
    """The power of the number of rows with which a cost grows: 1 where it is proportional."""
    return float(np.polyfit(np.log(list(cost)), np.log(list(cost.values())), 1)[0])


def _measure(way: str, folder: Path) -> Measured:
    return Measured(**json.loads(_run(way, folder)))


def _run(what: str, folder: Path, n: int = 0) -> str:
    call = [sys.executable, "-m", "speed.preparing", what, str(folder), str(n)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, env=environment).stdout.decode()


def _here(way: str, folder: Path) -> Measured:
    """Measure in this process."""
    prepare = WAYS[way]()
    base = _peak_gb()
    start, cpu = time.perf_counter(), time.process_time()
    prepared = prepare(folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    # Before the checksum, which needs memory of its own.
    return Measured(seconds, cpu, base, _peak_gb(), prepared.checksum())


def _peak_gb() -> float:
    peak = peak_megabytes()
    if peak is None:
        raise RuntimeError("the system does not tell a process's peak of memory")
    return peak / 1000


if __name__ == "__main__":
    what, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if what == "write":
        write_log(folder, n)
    else:
        print(json.dumps(asdict(_here(what, folder))))
