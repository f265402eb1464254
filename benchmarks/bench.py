"""Speed against what one would use instead: python benchmarks/bench.py [ROW …]

Each row measures us and a peer in turn, in one run, on the same work, and checks that both do the
same work. Prints a table and writes benchmarks/results/bench.json; a single row replaces its part
of that file. docs/performance.md says what the rows mean.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from speed.measure import Row, put

RESULTS = Path(__file__).parent / "results" / "bench.json"


def main(wanted: list[str]) -> int:
    """Measure all rows, or those named; 1 if one failed, which keeps its part of the file."""
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise SystemExit(f"unknown rows {', '.join(unknown)}; there are {', '.join(KINDS)}")
    failed = False
    for name in wanted or KINDS:
        row = attempt(name, KINDS[name])
        if isinstance(row, Row):
            store(row)
        else:
            failed = True
    return int(failed)


def attempt(name: str, measure: Callable[[], Row]) -> Row | str:
    """The row, or the error that ended it, so that the next can be measured; either is printed."""
    try:
        row = measure()
    except Exception as error:  # noqa: BLE001  # whatever it is, the next row goes on
        traceback.print_exc()
        found = f"{type(error).__name__}: {error}"
        print(f"{name:24s} FAILED {found}", flush=True)
        return found
    print(line(row), flush=True)
    return row


def line(row: Row) -> str:
    """One row of the table."""
    sign, met = "≤" if row.at_most else "≥", "ok" if row.ok else "MISSED"
    details = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.details.items()
    )
    spread = f"({min(row.ratios):.3g} to {max(row.ratios):.3g})"
    return (
        f"{row.name:24s} {row.ratio:8.3g} {row.unit} {spread:20s} {sign} {row.target:g}"
        f"  {met:6s}  {details}"
    )


def store(row: Row) -> None:
    """Put the row into the results file, in the table's order."""
    put(row.to_json() | {"machine": machine()}, RESULTS, KINDS)


def machine() -> str:
    """Processor, cores, what it computes in, and system, in words."""
    from speed.work import machine_dtype

    model = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().split("\n")
            if text.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, {machine_dtype()}, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def _kind(module: str, function: str) -> Callable[[], Row]:
    def measure() -> Row:
        row: Row = getattr(importlib.import_module(f"speed.{module}"), function)()
        return row

    return measure


# Imported when measured: a row's libraries are its own affair.
KINDS: dict[str, Callable[[], Row]] = {
    "sample_vs_transformers": _kind("sampling", "vs_transformers"),
    "sample_vs_vllm": _kind("sampling", "vs_vllm"),
    "sample_vs_limit": _kind("sampling", "vs_limit"),
    "dpo_vs_trl": _kind("tuning", "vs_trl"),
    "score_vs_single": _kind("scoring", "vs_single"),
    "encode_vs_default": _kind("encoding", "vs_default"),
    "reranker_vs_row_dataset": _kind("training", "vs_row_dataset"),
    "prepare_vs_pandas": _kind("preparing", "vs_pandas"),
    "rerank_vs_cross_encoder": _kind("reranking", "vs_cross_encoder"),
    "import_seconds": _kind("importing", "import_seconds"),
    "demo_vs_first": _kind("demo", "vs_first"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
