"""Print a run's results table as Markdown: python benchmarks/table.py RUN/results.json [kind]"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from command import call
from rlrf4rec.errors import ConfigError
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
    cells = _cells(results, kind)
    return _table("knowledge", _columns(results), {f"`{name}`": row for name, row in cells.items()})


def overview_markdown(runs: Mapping[str, Results], systems: Sequence[str]) -> str:
    """One row a system, the rerankers of all runs side by side: as `results_markdown`.

    Args:
        runs: results by what their data set is to be called.
        systems: which rows, in this order; every run must have them.
    """
    columns = [f"{name}: {one}" for name, run in runs.items() for one in _columns(run)]
    cells = [_cells(run) for run in runs.values()]
    rows = {f"`{name}`": [text for run in cells for text in run[name]] for name in systems}
    return _table("knowledge", columns, rows)


def comparisons_markdown(
    results: Results,
    pairs: list[tuple[str, str]],
    kind: str | None = None,
    metric: str = METRIC,
) -> str:
    """One row a pair of systems: the difference in the metric, its 95 % interval and p."""
    wanted = results.lists if kind is None else kind
    text = {
        (row.a, row.b, row.backbone): row.text
        for row in results.comparisons
        if (row.metric, row.kind) == (metric, wanted)
    }
    rows = {
        f"`{a}` − `{b}`": [text.get((a, b, backbone), "") for backbone in backbones(results)]
        for a, b in pairs
    }
    return _table(f"difference, {metric_label(metric)}", _columns(results), rows)


def _cells(results: Results, kind: str | None = None) -> dict[str, list[str]]:
    """The table's rows by system."""
    return {
        row.system: [cell.text if cell else "" for cell in row.cells]
        for row in results_table(results, METRIC, kind)
    }


def _columns(results: Results) -> list[str]:
    return [backbone_label(name) for name in backbones(results)]


def _table(corner: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [[corner, *columns], *([name, *cells] for name, cells in rows.items())]
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---|" + "---|" * len(columns), *body])


def main(source: Path, kind: str | None = None) -> None:
    """Print all tables of a results file.

    Raises:
        ConfigError: no such kind of lists in it.
    """
    results = read_results(source)
    kinds = list(dict.fromkeys(row.kind for row in results.systems))
    if kind is not None and kind not in kinds:
        raise ConfigError(
            f"a kind of lists: {', '.join(kinds)}",
            found=repr(kind),
            remedy="Name one of these, or none for the run's own.",
        )
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
    call(lambda given: main(Path(given[0]), *given[1:2]), least=1)
