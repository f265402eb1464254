"""A run's report: one HTML file that needs nothing else, neither network nor scripts.

Titles, ids and texts come from logs and language models and are not trusted: Jinja escapes them,
`visible` writes out their control characters, and a content policy in the page forbids scripts and
every load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlrf4rec.evaluation import charts, panels, words
from rlrf4rec.evaluation.metrics import ndcg
from rlrf4rec.evaluation.results import (
    ComparisonRow,
    Results,
    TableRow,
    backbones,
    order_systems,
    results_table,
    setting,
    write_text,
)
from rlrf4rec.evaluation.stories import CurvePoint, RankedItem, Story

MAIN_METRIC = "ndcg@5"


@dataclass(frozen=True)
class _Table:
    kind: str
    metric: str
    rows: list[TableRow]


@dataclass(frozen=True)
class _Claim:
    """A difference in plain words."""

    row: ComparisonRow
    verdict: str


def write_report(
    path: Path | str,
    results: Results,
    stories: Sequence[Story] = (),
    curves: Mapping[str, Sequence[CurvePoint]] | None = None,
) -> None:
    """Write `render_report` to ``path``; the file is whole or not there.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    write_text(path, render_report(results, stories, curves))


def render_report(
    results: Results,
    stories: Sequence[Story] = (),
    curves: Mapping[str, Sequence[CurvePoint]] | None = None,
) -> str:
    """The report's HTML.

    Args:
        results: the numbers.
        stories: single users to show; none: the section is left out.
        curves: DPO curves by the tuning's name, for example ``round 1, half 0``.
    """
    metric = main_metric(results)
    tables = _tables(results, metric)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            metric=metric,
            columns=backbones(results),
            facts=_facts(results),
            headline=_headline(results, metric),
            tables=[table for table in tables if table.metric == metric],
            other_tables=[table for table in tables if table.metric != metric],
            claims=[claim for claim in _claims(results) if claim.row.metric == metric],
            other_claims=[claim for claim in _claims(results) if claim.row.metric != metric],
            system_charts=panels.system_charts(results, metric),
            reward_charts=panels.reward_charts(results),
            tuning_charts=panels.tuning_charts(curves or {}),
            time_chart=panels.time_chart(results),
            systems=order_systems(row.system for row in results.systems),
            stories=stories,
        )
    )


def main_metric(results: Results) -> str:
    """NDCG@5 where it was computed, otherwise the first metric."""
    metrics = [row.metric for row in results.systems] or [MAIN_METRIC]
    return MAIN_METRIC if MAIN_METRIC in metrics else metrics[0]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlrf4rec.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "system": words.system_label,
        "group": words.system_group,
        "meaning": words.system_meaning,
        "metric": words.metric_label,
        "backbone": words.backbone_label,
        "kind": words.kind_label,
        "number": words.number,
        "p": words.p_value,
        "duration": words.duration,
        "marker": charts.group_marker,
        "ndcg5": _ndcg5,
    }
    environment.globals["groups"] = words.GROUPS
    return environment


def _finalize(value: object) -> object:
    # Runs before escaping, on every expression of the template; Markup is our own charts.
    return (
        words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """What was run, as label and text."""
    rounds = max((row.round for row in results.rewards), default=0)
    planned = setting(results, "rounds", "n_rounds")
    return [
        ("Data", results.dataset),
        ("Users", f"{results.n_users:,}"),
        ("Candidate lists", f"{results.n_lists:,} (\u201c{results.lists}\u201d)"),
        ("Left out, without a positive", f"{results.n_lists_without_positive:,}"),
        ("LLM", setting(results, "model", "name")),
        ("Texts per user, N", setting(results, "generation", "n_samples")),
        ("Rounds of tuning", f"{rounds}" + (f" of {planned}" if planned != str(rounds) else "")),
        ("Rewards from", words.backbone_label(setting(results, "reward", "backbone"))),
        ("Recommender folds", str(results.folds)),
        ("Recommender seeds", ", ".join(map(str, results.seeds))),
    ]


def _tables(results: Results, metric: str) -> list[_Table]:
    """One table a kind and metric; the primary kind and the main metric first."""
    found = dict.fromkeys((row.kind, row.metric) for row in results.systems)
    order = sorted(found, key=lambda key: (key[1] != metric, key[0] != results.lists))
    return [
        _Table(kind, name, results_table(results, name, kind))
        for kind, name in order
        if name == metric or kind == results.lists
    ]


def _claims(results: Results) -> list[_Claim]:
    return [_Claim(row, words.verdict(row)) for row in results.comparisons]


def _headline(results: Results, metric: str) -> list[_Claim]:
    """The last tuned round against the untuned LLM, on the primary lists."""
    rows = [
        claim
        for claim in _claims(results)
        if claim.row.metric == metric
        and claim.row.kind == results.lists
        and claim.row.b == "untuned"
        and words.system_group(claim.row.a) == "tuned"
    ]
    last = order_systems(claim.row.a for claim in rows)[-1:]
    return [claim for claim in rows if claim.row.a in last]


def _ndcg5(ranking: Sequence[RankedItem]) -> float | None:
    """NDCG@5 of a shown list; None without a positive."""
    if not any(item.positive for item in ranking):
        return None
    labels = [[int(item.positive) for item in ranking]]
    order = [[-float(rank) for rank in range(len(ranking))]]
    return float(ndcg(labels, order, k=5)[0])
