"""Print a run's results table as Markdown: python benchmarks/table.py RUN/results.json [kind]"""

from __future__ import annotations

import sys
from pathlib import Path

from rlrf4rec.evaluation.results import Results, backbones, read_results, results_table
from rlrf4rec.evaluation.words import backbone_label, metric_label

METRIC = "ndcg@5"
BY_USER = "user_ndcg@5"


def results_markdown(results: Results, kind: str | None = None) -> str:
    """One row a system, one column a reranker: mean NDCG@5 and half the 95 % interval.

    Args:
        results: of a run.
        kind: of lists; None: the run's own.
    """
    lines = _header("knowledge", results)
    for row in results_table(results, METRIC, kind):
        cells = [cell.text if cell else "" for cell in row.cells]
        lines.append(f"| `{row.system}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparisons_markdown(
    results: Results,
    pairs: list[tuple[str, str]],
    kind: str | None = None,
    metric: str = METRIC,
) -> str:
    """One row a pair of systems: the difference in the metric, its 95 % interval and p."""
    wanted = results.lists if kind is None else kind
    columns = backbones(results)
    lines = _header(f"difference, {metric_label(metric)}", results)
    for a, b in pairs:
        cells = []
        for backbone in columns:
            found = [
                row
                for row in results.comparisons
                if (row.a, row.b, row.backbone) == (a, b, backbone)
                and (row.metric, row.kind) == (metric, wanted)
            ]
            cells.append(found[0].text if found else "")
        lines.append(f"| `{a}` − `{b}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _header(first: str, results: Results) -> list[str]:
    columns = backbones(results)
    return [
        f"| {first} | " + " | ".join(backbone_label(name) for name in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]


def main() -> None:
    """Read the file that is named first on the command line."""
    results = read_results(Path(sys.argv[1]))
    kind = sys.argv[2] if len(sys.argv) > 2 else None
    pairs = list(dict.fromkeys((row.a, row.b) for row in results.comparisons))
    sys.stdout.write(
        "\n\n".join(
            [
                results_markdown(results, kind),
                comparisons_markdown(results, pairs, kind),
                comparisons_markdown(results, pairs, kind, BY_USER),
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
