import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from rlrf4rec.evaluation.charts import (
    Bar,
    IntervalPoint,
    Series,
    bar_chart,
    interval_chart,
    line_chart,
    thin,
    ticks,
)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.38, 0.62), (-2.1, -1.7), (5, 5), (0, 1e-7), (1, 30_000)]
)
def test_ticks_cover_the_data_evenly(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 7
    steps = [b - a for a, b in pairwise(marks)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_values_that_hardly_differ_can_be_drawn():
    line_chart("margin", "", [Series("dpo", [(0, 0.0), (1, 5e-10)])], "step", "margin")


def test_intervals_lie_where_the_axis_says():
    """Span 0 to 1 with 6 % of air on each side: 0.5 lies midway between 142 and 312 units."""
    point = IntervalPoint("id", 0.5, (0.25, 0.75), "none")
    chart = interval_chart("t", "d", [point], (0.0, 1.0), reference=0.5)
    assert 'class="reference" d="M227.0 ' in chart
    low, high = re.search(r'class="whisker" d="M([\d.]+) [\d.]+L([\d.]+)', chart).groups()
    assert (float(low) + float(high)) / 2 == pytest.approx(227.0)


def test_means_beyond_the_axis_become_arrowheads():
    points = [IntervalPoint("low", 0.1, (0.0, 0.2), "none"), IntervalPoint("in", 0.5, None, "none")]
    chart = interval_chart("t", "d", points, (0.4, 0.6))
    assert chart.count('class="mark off"') == 1
    assert ">0.100</text>" in chart


def test_points_that_are_not_finite_are_left_out():
    points = [(0.0, 1.0), (1.0, float("nan")), (2.0, float("inf")), (3.0, 2.0)]
    chart = line_chart("t", "d", [Series("a", points)], "x", "y", whole_x=True)
    assert "nan" not in chart
    assert "inf" not in chart
    # Legend marker and two points.
    assert chart.count('class="mark"') == 3


def test_lines_differ_without_colour():
    series = [Series(str(index), [(0, index), (1, index)]) for index in range(4)]
    chart = line_chart("t", "d", series, "x", "y")
    assert len(set(re.findall(r'stroke-dasharray="([^"]*)"', chart))) == 4


def test_charts_are_well_formed_and_escaped():
    hostile = '<b>"&\u202e'
    for chart in (
        interval_chart(hostile, hostile, [IntervalPoint(hostile, 0.5, None, "x")], (0, 1)),
        line_chart(hostile, hostile, [Series(hostile, [(0, 0)])], hostile, hostile),
        bar_chart(hostile, hostile, [Bar(hostile, 0.0, hostile)]),
        line_chart("empty", "", [], "x", "y"),
        bar_chart("empty", "", []),
    ):
        assert ElementTree.fromstring(chart).tag == "svg"
        assert "\u202e" not in chart


def test_bars_are_proportional():
    chart = bar_chart("t", "d", [Bar("a", 10, "10 s"), Bar("b", 5, "5 s")])
    long, short = (float(width) for width in re.findall(r'width="([\d.]+)"', chart))
    assert long == pytest.approx(2 * short)


def test_thinning_keeps_the_mean():
    points = [(float(x), float(x % 7)) for x in range(100)]
    few = thin(points, 25)
    assert len(few) == 25
    assert sum(y for _, y in few) / 25 == pytest.approx(sum(y for _, y in points) / 100)
    assert thin(points, 100) == points
