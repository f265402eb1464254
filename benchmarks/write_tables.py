"""Write the committed runs' figures into the README and docs: python benchmarks/write_tables.py

Replaces the tables that stand there. Their systems and differences stay as they are: a row is added
or left out by hand. Prose is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rlrf4rec.evaluation.results import Results, read_results
from rlrf4rec.evaluation.words import metric_label
from table import BY_USER, METRIC, comparisons_markdown, overview_markdown, results_markdown

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "concepts" / "results.md")

# Folders below benchmarks/results, by what sections and the README's columns call them.
RUNS = {"MovieLens-100K": "ml-100k", "A shop": "amazon-industrial"}


def with_tables(text: str) -> str:
    """The text with the committed runs' tables: a section of a run's name has its own."""
    runs = {
        name: read_results(ROOT / "benchmarks" / "results" / folder / "results.json")
        for name, folder in RUNS.items()
    }
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return "".join(_section(section, runs) for section in sections)


def _section(text: str, runs: dict[str, Results]) -> str:
    results = runs.get(text.partition("\n")[0].removeprefix("## "))
    if results is None:
        return _replaced(text, "knowledge", lambda rows: overview_markdown(runs, _systems(rows)))
    text = _replaced(text, "knowledge", lambda _: results_markdown(results))
    for metric in (METRIC, BY_USER):
        differences = partial(_differences, results, metric)
        text = _replaced(text, f"difference, {metric_label(metric)}", differences)
    return text


def _differences(results: Results, metric: str, rows: str) -> str:
    pairs = re.findall(r"^\| `(\w+)` − `(\w+)` \|", rows, flags=re.MULTILINE)
    return comparisons_markdown(results, pairs, metric=metric)


def _replaced(text: str, corner: str, table: Callable[[str], str]) -> str:
    """The text with its table of that first cell made anew from its rows."""
    return re.sub(
        rf"^\| {re.escape(corner)} \|(?:.*\n)+?(?=\n)",
        lambda found: table(found[0]) + "\n",
        text,
        flags=re.MULTILINE,
    )


def _systems(rows: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
