"""Charts as inline SVG, made by pure functions.

Every chart is 360 units wide, about a phone's width, so that its 12-unit text stays legible there;
the page sets charts side by side where there is room. Colours come from the page's style sheet
(classes ``c0`` to ``c5`` and ``g-<group>``), which knows light and dark; line dashes and marker
shapes tell series apart without colour. All text is escaped.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rlrf4rec.evaluation.words import number, visible

WIDTH = 360
_CHAR = 6.4  # width of an average character at 12 units
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "4 2", "1 2")
_GROUP_SHAPES = {"none": 0, "other": 1, "control": 2, "untuned": 0, "tuned": 3}


@dataclass(frozen=True)
class IntervalPoint:
    """A row of `interval_chart`: a mean, its 95 % interval, and its group (the marker)."""

    label: str
    mean: float
    ci95: tuple[float, float] | None
    group: str


@dataclass(frozen=True)
class Series:
    """A line of `line_chart`; points that are not finite are left out."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A row of `bar_chart`; ``text`` is the value as printed."""

    label: str
    value: float
    text: str


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that cover ``[low, high]``, at most about ``most`` of them.

    >>> ticks(0.38, 0.62)
    [0.3, 0.4, 0.5, 0.6, 0.7]
    >>> ticks(0, 2, most=3)
    [0.0, 1.0, 2.0]
    """
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def interval_chart(
    title: str,
    description: str,
    points: Sequence[IntervalPoint],
    span: tuple[float, float],
    reference: float | None = None,
) -> Markup:
    """Means with 95 % intervals, one row each; ``span`` lets several charts share an axis.

    A mean outside the span is an arrowhead at the chart's edge; its value is still printed, so
    that one weak baseline does not squeeze the rows that are to be told apart.

    Args:
        title: read out by screen readers, with the description.
        description: what the chart shows, in one sentence.
        points: rows, from top to bottom.
        span: smallest and largest value of the axis.
        reference: where to draw a dashed vertical line.
    """
    left, right, row, top = 142, 48, 24, 8
    bottom = top + row * len(points)
    scale = _Scale(*_widened(*span), left, WIDTH - right)
    marks = [mark for mark in ticks(*span, most=5) if scale.low <= mark <= scale.high]
    parts = [_x_axis(marks, scale, top, bottom)]
    if reference is not None and scale.holds(reference):
        parts.append(_line(scale(reference), top, scale(reference), bottom, "reference"))
    for index, point in enumerate(points):
        y = top + row * (index + 0.5)
        parts.append(_text(left - 10, y + 4, _shorten(point.label, 20), "label end"))
        parts.append(_text(WIDTH - 4, y + 4, number(point.mean), "value end"))
        parts.append(
            Markup('<g class="g-{}">{}</g>').format(point.group, _estimate(point, scale, y))
        )
    return _svg(title, description, bottom + 26, parts)


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    whole_x: bool = False,
    span: tuple[float, float] | None = None,
) -> Markup:
    """Lines over a common x axis, with a legend above.

    Args:
        title: read out by screen readers, with the description.
        description: what the chart shows, in one sentence.
        series: lines, in the legend's order.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        whole_x: x counts something (rounds): ticks are whole numbers and every point is marked.
        span: smallest and largest y; None: from the data.
    """
    lines = [Series(line.name, _finite(line.points)) for line in series]
    xs = [x for line in lines for x, _ in line.points] or [0.0, 1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    legend, top = _legend([line.name for line in lines])
    height, left = 170, 48
    top += 30
    x_marks = (
        [float(x) for x in range(math.floor(min(xs)), math.ceil(max(xs)) + 1)]
        if whole_x
        else ticks(min(xs), max(xs), most=5)
    )
    y_marks = ticks(*(span or (min(ys), max(ys))), most=5)
    x_scale = _Scale(x_marks[0], x_marks[-1], left + 6, WIDTH - 16)
    y_scale = _Scale(y_marks[0], y_marks[-1], top + height, top)
    parts = [legend, _text(2, top - 14, y_label, "axis")]
    for mark in y_marks:
        parts.append(_line(left, y_scale(mark), WIDTH - 8, y_scale(mark), "grid"))
        parts.append(_text(left - 6, y_scale(mark) + 4, _tick_text(mark, y_marks), "tick end"))
    for mark in x_marks:
        text = _tick_text(mark, x_marks)
        parts.append(_text(x_scale(mark), top + height + 16, text, "tick middle"))
    parts.append(_text((left + WIDTH) / 2, top + height + 34, x_label, "axis middle"))
    for index, line in enumerate(lines):
        spots = [(x_scale(x), y_scale(y)) for x, y in line.points]
        every = 1 if whole_x else max(1, len(spots) // 6)
        parts.append(_drawn_line(index, spots, spots[::every]))
    return _svg(title, description, top + height + 42, parts)


def bar_chart(title: str, description: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars from 0, the value written at the end of each."""
    left, right, row = 132, 82, 24
    scale = _Scale(0.0, max([bar.value for bar in bars] + [1e-9]), left, WIDTH - right)
    parts: list[Markup] = []
    for index, bar in enumerate(bars):
        y = row * index + 4
        parts.append(_text(left - 8, y + 13, _shorten(bar.label, 19), "label end"))
        parts.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="16"/>').format(
                left, y, max(1.0, scale(bar.value) - left)
            )
        )
        parts.append(_text(scale(bar.value) + 6, y + 13, bar.text, "value"))
    return _svg(title, description, row * len(bars) + 4, parts)


def group_marker(group: str) -> Markup:
    """A group's marker alone, for tables and legends; decorative, so hidden from readers."""
    return Markup(
        '<svg class="marker g-{}" viewBox="0 0 12 12" aria-hidden="true">{}</svg>'
    ).format(group, _marker(_GROUP_SHAPES.get(group, 1), 6, 6))


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Means of consecutive points, so that at most ``most`` are left.

    >>> thin([(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)], most=2)
    [(1.5, 0.5), (3.5, 2.5)]
    """
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block))
        for block in blocks
    ]


@dataclass(frozen=True)
class _Scale:
    """Linear, from values to units."""

    low: float
    high: float
    start: float
    end: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.end - self.start)


def _svg(title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    key = f"chart-{zlib.crc32(f'{title} {description}'.encode('utf-8', 'replace')):08x}"
    return Markup(
        '<svg class="chart" role="img" aria-labelledby="{key}-t {key}-d" '
        'viewBox="0 0 {width} {height:.0f}"><title id="{key}-t">{title}</title>'
        '<desc id="{key}-d">{description}</desc>{body}</svg>'
    ).format(
        key=key,
        width=WIDTH,
        height=height,
        title=visible(title),
        description=visible(description),
        body=Markup("").join(parts),
    )


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
        style, x, y, visible(text)
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str = "whisker") -> Markup:
    return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(
        style, x1, y1, x2, y2
    )


def _estimate(point: IntervalPoint, scale: _Scale, y: float) -> Markup:
    """Whisker and marker, or an arrowhead where the mean is off the scale."""
    if not scale.holds(point.mean):
        x, back = (scale.start, 7) if point.mean < scale.low else (scale.end, -7)
        return Markup(
            '<path class="mark off" d="M{0:.1f} {1:.1f}L{2:.1f} {3:.1f}V{4:.1f}z"/>'
        ).format(x, y, x + back, y - 5, y + 5)
    whisker = Markup()
    if point.ci95 is not None:
        low, high = (scale(min(max(end, scale.low), scale.high)) for end in point.ci95)
        whisker = _line(low, y, high, y) + _line(low, y - 4, low, y + 4)
        whisker += _line(high, y - 4, high, y + 4)
    return whisker + _marker(_GROUP_SHAPES.get(point.group, 1), scale(point.mean), y)


def _widened(low: float, high: float) -> tuple[float, float]:
    """A little air on both sides, so that no marker sits on the edge."""
    air = 0.06 * (high - low) or 0.05
    return low - air, high + air


def _marker(shape: int, x: float, y: float) -> Markup:
    outlines = (
        "M{l:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",  # circle
        "M{x:.1f} {t:.1f}L{r:.1f} {b:.1f}L{l:.1f} {b:.1f}z",  # triangle
        "M{l:.1f} {t:.1f}h8v8h-8z",  # square
        "M{x:.1f} {tt:.1f}L{rr:.1f} {y:.1f}L{x:.1f} {bb:.1f}L{ll:.1f} {y:.1f}z",  # diamond
    )
    path = outlines[shape % len(outlines)].format(
        x=x, y=y, l=x - 4, r=x + 4, t=y - 4, b=y + 4, ll=x - 5, rr=x + 5, tt=y - 5, bb=y + 5
    )
    return Markup('<path class="mark" d="{}"/>').format(path)


def _drawn_line(
    index: int, spots: Sequence[tuple[float, float]], marked: Sequence[tuple[float, float]]
) -> Markup:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    line = Markup('<path class="line" stroke-dasharray="{}" d="M{}"/>').format(
        _DASHES[index % len(_DASHES)], path
    )
    marks = Markup("").join(_marker(index, x, y) for x, y in marked)
    return Markup('<g class="c{}">{}{}</g>').format(index % 6, line if spots else "", marks)


def _legend(names: Sequence[str]) -> tuple[Markup, float]:
    """The legend and the height it takes."""
    widest = max((min(len(name), 40) for name in names), default=0)
    per_row = max(1, int(WIDTH // (widest * _CHAR + 44)))
    column = WIDTH / per_row
    parts = []
    for index, name in enumerate(names):
        x, y = (index % per_row) * column, 10 + 20 * (index // per_row)
        parts.append(_drawn_line(index, [(x + 2, y), (x + 28, y)], [(x + 15, y)]))
        parts.append(_text(x + 34, y + 4, _shorten(name, 40), "label"))
    return Markup("").join(parts), 20.0 * math.ceil(len(names) / per_row)


def _x_axis(marks: Sequence[float], scale: _Scale, top: float, bottom: float) -> Markup:
    return Markup("").join(
        _line(scale(mark), top, scale(mark), bottom, "grid")
        + _text(scale(mark), bottom + 16, _tick_text(mark, marks), "tick middle")
        for mark in marks
    )


def _tick_text(mark: float, marks: Sequence[float]) -> str:
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    # 0.25 needs two digits although its power of ten has one.
    exact = (d for d in range(10) if math.isclose(round(step, d), step, rel_tol=1e-6))
    digits = next(exact, 9)
    return number(mark, digits)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"
