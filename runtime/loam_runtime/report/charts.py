"""Small SVG charts without script: lines, intervals, bars.

Colours come from the page's classes, so that the charts follow light, dark and print. The
drawing area is 480 units wide, which keeps its text readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup

WIDTH = 480
MAX_POINTS = 240  # of one line; more would only make the page heavier
_LABEL_WIDTH = 158  # left of bars and intervals
_ROW_HEIGHT = 34
_MAX_LABEL = 20  # characters of a line that fit into _LABEL_WIDTH, in a wide font


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: points (x, y) in order of x, drawn with the CSS class `style`."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A value with its interval, `text` behind it; `is_emphasised` for the chart's subject."""

    name: str
    value: float
    low: float
    high: float
    text: str
    is_emphasised: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of length `value` >= 0 with `text` behind it."""

    name: str
    value: float
    text: str
    style: str = "bar"


def draw_lines(
    lines: Sequence[Line], *, chart_id: str, title: str, description: str, x_label: str
) -> Markup:
    """Curves over a common x axis, with a legend; points that are not finite are left out."""
    left, top, right, bottom, height = 46, 34, 12, 40, 260
    lines = [_keep_finite(line) for line in lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    x_ticks = compute_ticks(min(x for x, _ in points), max(x for x, _ in points), whole=True)
    y_ticks = compute_ticks(0.0, max(y for _, y in points))
    scale_x = _build_scale(x_ticks[0], x_ticks[-1], left, WIDTH - right)
    scale_y = _build_scale(y_ticks[0], y_ticks[-1], height - bottom, top)
    parts = [
        *(_draw_y_tick(tick, scale_y(tick), left, WIDTH - right) for tick in y_ticks),
        *(_draw_x_tick(tick, scale_x(tick), height - bottom + 16) for tick in x_ticks),
        _draw_text((left + WIDTH - right) / 2, height - 6, x_label, "axis", "middle"),
        *(_draw_curve(_thin_out(line), scale_x, scale_y) for line in lines),
        _draw_legend(lines, left),
    ]
    return _wrap(parts, height, chart_id, title, description)


def draw_intervals(
    rows: Sequence[IntervalRow],
    ticks: Mapping[float, str],
    *,
    chart_id: str,
    title: str,
    description: str,
) -> Markup:
    """Values as points with their intervals, one row each, on the scale that `ticks` span.

    Args:
        ticks: places on the axis, in ascending order, and what stands there.
    """
    top, bottom, right = 8, 26, 56
    height = top + _ROW_HEIGHT * len(rows) + bottom
    scale = _build_scale(min(ticks), max(ticks), _LABEL_WIDTH, WIDTH - right)
    base = height - bottom
    parts = [
        Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            scale(tick), top, base
        )
        + _draw_text(scale(tick), base + 16, text, "axis", "middle")
        for tick, text in ticks.items()
    ]
    for index, row in enumerate(rows):
        y = top + _ROW_HEIGHT * (index + 0.5)
        style = "point strong" if row.is_emphasised else "point"
        parts += [
            _draw_label(row.name, y),
            Markup('<g class="{}"><line x1="{:.1f}" x2="{:.1f}" y1="{y}" y2="{y}"/>').format(
                style, scale(row.low), scale(row.high), y=y
            ),
            Markup('<circle cx="{:.1f}" cy="{}" r="5"/></g>').format(scale(row.value), y),
            _draw_text(WIDTH - 4, y + 4, row.text, "value", "end"),
        ]
    return _wrap(parts, height, chart_id, title, description)


def draw_bars(bars: Sequence[Bar], *, chart_id: str, title: str, description: str) -> Markup:
    """Horizontal bars on one common scale that starts at 0."""
    right, height = 76, 8 + _ROW_HEIGHT * len(bars)
    longest = max((bar.value for bar in bars), default=0) or 1
    parts = []
    for index, bar in enumerate(bars):
        y = 4 + _ROW_HEIGHT * index
        length = max(1.5, (WIDTH - right - _LABEL_WIDTH) * bar.value / longest)
        parts += [
            _draw_label(bar.name, y + _ROW_HEIGHT / 2),
            Markup('<rect class="{}" x="{}" y="{}" width="{:.1f}" height="{}" rx="3"/>').format(
                bar.style, _LABEL_WIDTH, y + 6, length, _ROW_HEIGHT - 12
            ),
            _draw_text(_LABEL_WIDTH + length + 8, y + _ROW_HEIGHT / 2 + 4, bar.text, "value"),
        ]
    return _wrap(parts, height, chart_id, title, description)


def compute_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Two to eight round numbers whose first is at most `low` and whose last is at least `high`.

    Args:
        whole: only whole numbers, for counts.
    """
    span = high - low
    # Values that differ by less than this are one value on any axis.
    if span <= 1e-9 * max(1.0, abs(high)):
        span = 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
    if whole:
        step = max(1.0, step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and those around it, at most `window` in all; fewer at the ends."""
    reach = window // 2
    return [
        sum(part) / len(part)
        for index in range(len(values))
        if (part := values[max(0, index - reach) : index + reach + 1])
    ]


def _keep_finite(line: Line) -> Line:
    points = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    return Line(line.name, points, line.style, line.has_dots)


def _thin_out(line: Line) -> Line:
    """Neighbouring points replaced by their mean where a line has more than MAX_POINTS."""
    size = math.ceil(len(line.points) / MAX_POINTS)
    if size <= 1:
        return line
    groups = [line.points[start : start + size] for start in range(0, len(line.points), size)]
    means = [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]
    return Line(line.name, means, line.style, line.has_dots)


def _build_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _draw_curve(
    line: Line, scale_x: Callable[[float], float], scale_y: Callable[[float], float]
) -> Markup:
    places = [(scale_x(x), scale_y(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    curve = Markup('<polyline class="{}" points="{}"/>').format(line.style, path)
    # A single point has no length: without its dot it would not be seen.
    if line.has_dots or len(places) == 1:
        for x, y in places:
            curve += Markup('<circle class="{} dot" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
                line.style, x, y
            )
    return curve


def _draw_legend(lines: Sequence[Line], left: float) -> Markup:
    legend = Markup("")
    x = left
    for line in lines:
        if line.name:
            legend += Markup('<line class="{}" x1="{}" x2="{}" y1="14" y2="14"/>').format(
                line.style, x, x + 20
            ) + _draw_text(x + 26, 18, line.name, "value")
            x += 44 + 6.6 * len(line.name)
    return legend


def _draw_y_tick(value: float, y: float, left: float, right: float) -> Markup:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return grid.format(left, right, y=y) + _draw_text(left - 8, y + 4, f"{value:g}", "axis", "end")


def _draw_x_tick(value: float, x: float, y: float) -> Markup:
    return _draw_text(x, y, f"{value:,.0f}", "axis", "middle")


def _draw_label(name: str, y: float) -> Markup:
    """A row's name in at most two lines; the whole of a longer one shows on hovering."""
    lines = wrap(name, _MAX_LABEL, max_lines=2, placeholder=" …") or [""]
    first = y + 4 - 6.5 * (len(lines) - 1)
    spans = Markup("").join(
        Markup('<tspan x="{}" y="{:.1f}">{}</tspan>').format(
            _LABEL_WIDTH - 10, first + 13 * index, line
        )
        for index, line in enumerate(lines)
    )
    return Markup('<text class="name" text-anchor="end">{}<title>{}</title></text>').format(
        spans, name
    )


def _draw_text(x: float, y: float, text: str, style: str, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, text
    )


def _wrap(
    parts: Sequence[Markup], height: float, chart_id: str, title: str, description: str
) -> Markup:
    head = Markup(
        '<svg id="{id}" class="chart" role="img" aria-labelledby="{id}-title {id}-desc" '
        'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        '<title id="{id}-title">{title}</title><desc id="{id}-desc">{description}</desc>'
    ).format(id=chart_id, width=WIDTH, height=height, title=title, description=description)
    return head + Markup("").join(parts) + Markup("</svg>")
