"""Print a run's results table as Markdown: python benchmarks/table.py RUN/results.json"""

from __future__ import annotations

import sys
from pathlib import Path

from rlrf4rec.evaluation.results import Results, backbones, read_results, results_table

METRIC = "ndcg@5"


def results_markdown(results: Results) -> str:
    """One row a system, one column a reranker: mean NDCG@5 and half the 95 % interval."""
    columns = backbones(results)
    lines = [
        "| knowledge | " + " | ".join(name.upper() for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for row in results_table(results, METRIC):
        cells = [cell.text if cell else "" for cell in row.cells]
        lines.append(f"| `{row.system}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparisons_markdown(results: Results, pairs: list[tuple[str, str]]) -> str:
    """One row a pair of systems: the difference in NDCG@5, its 95 % interval and p."""
    columns = backbones(results)
    lines = [
        "| difference | " + " | ".join(name.upper() for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for a, b in pairs:
        cells = []
        for backbone in columns:
            found = [
                row
                for row in results.comparisons
                if (row.a, row.b, row.backbone, row.metric) == (a, b, backbone, METRIC)
            ]
            cells.append(found[0].text if found else "")
        lines.append(f"| `{a}` − `{b}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the file that is named first on the command line."""
    results = read_results(Path(sys.argv[1]))
    pairs = list(dict.fromkeys((row.a, row.b) for row in results.comparisons))
    sys.stdout.write(
        results_markdown(results) + "\n\n" + comparisons_markdown(results, pairs) + "\n"
    )


if __name__ == "__main__":
    main()
