"""The report's charts, made from a run's results: what goes into which panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from rlrf4rec.evaluation import charts, words
from rlrf4rec.evaluation.results import Results, backbones, results_table, setting
from rlrf4rec.evaluation.stories import CurvePoint

_MOST_BARS = 14
_CURVE_POINTS = 40  # single steps of DPO are too noisy to read
_WITHOUT_RECOMMENDER = {"random", "popularity", "first_stage", "llm_zero_shot"}
_UNTUNED = words.system_label("untuned")


def system_charts(results: Results, metric: str) -> list[tuple[str, Markup]]:
    """A panel a backbone, on one axis, as wide as the systems with a recommender need it."""
    panels = {
        backbone: _points(results, metric, column)
        for column, backbone in enumerate(backbones(results) or [None])
    }
    table = results_table(results, metric)
    close = [row for row in table if row.system not in _WITHOUT_RECOMMENDER] or table
    cells = [cell for row in close for cell in row.cells if cell]
    edges = [edge for cell in cells if cell.mean is not None for edge in (cell.ci95 or [cell.mean])]
    if not edges:
        return []
    label = words.metric_label(metric)
    charted = []
    for backbone, points in panels.items():
        name = "" if backbone is None else words.backbone_label(backbone)
        chart = charts.interval_chart(
            f"{label} by system {name}".strip(),
            "Means: " + "; ".join(f"{p.label} {words.number(p.mean)}" for p in points),
            points,
            (min(edges), max(edges)),
            reference=next((p.mean for p in points if p.label == _UNTUNED), None),
        )
        charted.append((name, chart))
    return charted


def _points(results: Results, metric: str, column: int) -> list[charts.IntervalPoint]:
    return [
        charts.IntervalPoint(
            words.system_label(row.system), cell.mean, cell.ci95, words.system_group(row.system)
        )
        for row in results_table(results, metric)
        if (cell := row.cells[column]) is not None and cell.mean is not None
    ]


def reward_charts(results: Results) -> list[tuple[str, Markup]]:
    """A panel a split: best, mean and worst by round."""
    rows = [row for row in results.rewards if row.mean is not None]
    values = [v for row in rows for v in (row.best, row.mean, row.worst) if v is not None]
    panels = []
    for split in dict.fromkeys(row.split for row in rows):
        of_split = sorted((r for r in rows if r.split == split), key=lambda row: row.round)
        series = [
            charts.Series(
                name,
                [(r.round, v) for r in of_split if (v := getattr(r, name)) is not None],
            )
            for name in ("best", "mean", "worst")
        ]
        chart = charts.line_chart(
            f"Rewards by round, {split} users",
            "Best, mean and worst reward of a user's texts, averaged over users; mean: "
            + ", ".join(f"round {row.round} {words.number(row.mean)}" for row in of_split),
            series,
            x_label="round (0: untuned)",
            y_label=_reward_unit(results),
            whole_x=True,
            span=(min(values), max(values)),
        )
        panels.append((f"{split.capitalize()} users", chart))
    return panels


def _reward_unit(results: Results) -> str:
    metric = setting(results, "reward", "metric")
    if metric == "ndcg":
        return f"reward (NDCG@{setting(results, 'reward', 'k')})"
    return "reward (log-likelihood)" if metric == "log_likelihood" else "reward"


def tuning_charts(curves: Mapping[str, Sequence[CurvePoint]]) -> list[tuple[str, Markup]]:
    """Margin and accuracy by step, a line a tuning."""
    shown = {name: points for name, points in curves.items() if points}
    if not shown:
        return []
    margins = [
        charts.Series(name, charts.thin([(p.step, p.margin) for p in points], _CURVE_POINTS))
        for name, points in shown.items()
    ]
    accuracies = [
        charts.Series(name, charts.thin([(p.step, p.accuracy) for p in points], _CURVE_POINTS))
        for name, points in shown.items()
    ]
    last = "; ".join(
        f"{name}: {points[-1].margin:.3f} and {points[-1].accuracy:.2f}"
        for name, points in shown.items()
    )
    note = f"At the last step (margin and accuracy) {last}"
    return [
        (
            "Reward margin",
            charts.line_chart("DPO reward margin by step", note, margins, "step", "margin"),
        ),
        (
            "Accuracy",
            charts.line_chart(
                "DPO accuracy by step", note, accuracies, "step", "share of pairs", span=(0, 1)
            ),
        ),
    ]


def time_chart(results: Results) -> Markup | None:
    """Stages by time, longest first; many short ones are summed up."""
    stages = sorted(results.seconds.items(), key=lambda item: (-item[1], item[0]))
    if not stages:
        return None
    bars = [charts.Bar(name, value, words.duration(value)) for name, value in stages[:_MOST_BARS]]
    if rest := stages[_MOST_BARS:]:
        total = sum(value for _, value in rest)
        bars.append(charts.Bar(f"{len(rest)} others", total, words.duration(total)))
    total = sum(results.seconds.values())
    return charts.bar_chart(
        "Seconds by stage",
        f"{words.duration(total)} in all; longest: {stages[0][0]}, {bars[0].text}",
        bars,
    )
