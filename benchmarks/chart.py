"""Draw a run's systems as one SVG: python benchmarks/chart.py RUN/results.json TARGET.svg

The report's own charts, one panel a reranker, in a file that a README can show.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from command import call
from rlrf4rec.evaluation.charts import WIDTH
from rlrf4rec.evaluation.panels import system_charts
from rlrf4rec.evaluation.results import Results, read_results

METRIC = "ndcg@5"
_GAP, _HEADING = 24, 24


def drawing(results: Results) -> str:
    """All panels side by side, with the report's colours for light and dark."""
    panels = system_charts(results, METRIC)
    height = max(int(_height(str(chart))) for _, chart in panels) + _HEADING
    width = len(panels) * (WIDTH + _GAP) - _GAP
    parts = [
        f'<text x="{place * (WIDTH + _GAP)}" y="16" font-weight="bold">{name}</text>'
        + str(chart).replace(
            '<svg class="chart"',
            f'<svg x="{place * (WIDTH + _GAP)}" y="{_HEADING}" width="{WIDTH}" '
            f'height="{_height(str(chart))}"',
        )
        for place, (name, chart) in enumerate(panels)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
        f"<style>{_style()}</style>"
        f'<rect width="100%" height="100%" fill="var(--panel)"/>{"".join(parts)}</svg>\n'
    )


def _height(chart: str) -> str:
    found = re.search(rf'viewBox="0 0 {WIDTH} (\d+)"', chart)
    assert found is not None
    return found[1]


def _style() -> str:
    """The report's colours and the rules of its charts."""
    css = (files("rlrf4rec.evaluation") / "templates" / "report.css").read_text(encoding="utf-8")
    colours = css[: css.index("* {")]
    rules = re.findall(r"^(?:svg |\.g-|\.c\d).*$", css, flags=re.MULTILINE)
    return colours + "\n".join(rules)


def main(source: Path, target: Path) -> None:
    """Draw a run's results into a file."""
    target.write_text(drawing(read_results(source)), encoding="utf-8")


if __name__ == "__main__":
    call(lambda given: main(Path(given[0]), Path(given[1])), least=2)
