from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loam_runtime.report.charts import (
    MAX_POINTS,
    WIDTH,
    Bar,
    IntervalRow,
    Line,
    compute_ticks,
    draw_bars,
    draw_intervals,
    draw_lines,
    smooth,
)

TEXTS = {"chart_id": "c", "title": "T", "description": "D"}
FINITE = st.floats(0, 1e9)
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]))


def draw_loss(*lines: Line):
    return draw_lines(lines, x_label="Step", **TEXTS)


def find_coordinates(svg: str) -> list[float]:
    root = ElementTree.fromstring(svg)
    names = ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy")
    found = [float(node.get(name)) for node in root.iter() for name in names if node.get(name)]
    for node in root.iter("polyline"):
        found += [float(part) for part in re.split(r"[ ,]", node.get("points")) if part]
    return found


@given(st.lists(FINITE, min_size=1, max_size=30), PRINTABLE)
def test_curves_stay_inside_the_drawing(losses, name):
    """A point outside the view box is a loss that nobody sees."""
    svg = draw_loss(Line(name, list(enumerate(losses)), "line"))
    height = float(ElementTree.fromstring(svg).get("height"))
    assert all(-1 <= value <= max(WIDTH, height) + 1 for value in find_coordinates(svg))


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_ticks_are_few_round_and_cover_the_values(low, span, whole):
    """Ticks at 0.3333 or thirty of them make an axis that nobody reads."""
    high = low + span
    ticks = compute_ticks(low, high, whole=whole)
    assert 2 <= len(ticks) <= 9
    tolerance = 1e-6 * max(1.0, abs(low), abs(high))
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= high - tolerance
    step = ticks[1] - ticks[0]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - factor) for factor in (1, 2, 5, 10)) < 1e-3
    if whole:
        assert all(abs(tick - round(tick)) < 1e-6 for tick in ticks)


def test_ticks_of_a_known_axis():
    """120 steps and a loss that starts at 2.3, as in the example."""
    assert compute_ticks(1, 120, whole=True) == [0, 20, 40, 60, 80, 100, 120]
    assert compute_ticks(0, 2.3) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert compute_ticks(5, 5, whole=True) == [5, 6]


def test_long_curves_are_thinned_out_without_losing_their_shape():
    """A hundred thousand steps must not become a page of ten megabytes."""
    losses = [(step, 2 - step / 100_000) for step in range(100_000)]
    svg = draw_loss(Line("Training", losses, "line"))
    points = re.search(r'points="([^"]*)"', svg)[1].split()
    assert len(points) <= MAX_POINTS
    heights = [float(point.split(",")[1]) for point in points]
    assert heights == sorted(heights)


def test_a_single_value_is_visible():
    """One validation at the end of a short run is a point, not a line of no length."""
    assert "<circle" in draw_loss(Line("Validation", [(10, 0.5)], "line"))


def test_curves_without_any_finite_value_are_no_chart():
    """Axes around nothing would suggest that something was measured."""
    assert draw_loss(Line("Training", [(1, math.nan)], "line"), Line("Other", [], "line")) == ""


@given(st.lists(st.tuples(PRINTABLE, FINITE), max_size=8))
def test_bars_are_proportional_and_labelled(rows):
    """Bars are read by their length: twice the rows, twice the length."""
    bars = [Bar(name, value, f"{value}") for name, value in rows]
    root = ElementTree.fromstring(draw_bars(bars, **TEXTS))
    lengths = [float(node.get("width")) for node in root.iter("rect")]
    assert len(lengths) == len(bars)
    longest = max((bar.value for bar in bars), default=0)
    if longest:
        assert WIDTH / 3 < max(lengths) < WIDTH * 2 / 3
    for bar, length in zip(bars, lengths, strict=True):
        if longest and bar.value / longest > 0.05:
            assert length / max(lengths) == pytest.approx(bar.value / longest, abs=0.01)
    names = [node.findtext("title") for node in root.iter("text") if node.get("class") == "name"]
    assert names == [bar.name for bar in bars]


def test_intervals_show_value_and_both_ends():
    """The verdict rests on whether intervals overlap: all three places must be right."""
    row = IntervalRow("Fine-tuned", 0.5, 0.25, 1.0, "50 %", True)
    ticks = {share: f"{share:.0%}" for share in (0, 0.25, 0.5, 0.75, 1)}
    svg = draw_intervals([row], ticks, **TEXTS)
    root = ElementTree.fromstring(svg)
    grid = [float(node.get("x1")) for node in root.iter("line") if node.get("class") == "grid"]
    interval = root.find("g[@class='point strong']")
    line, circle = interval.find("line"), interval.find("circle")
    assert [float(line.get("x1")), float(line.get("x2"))] == [grid[1], grid[4]]
    assert float(circle.get("cx")) == grid[2]


@given(st.lists(st.floats(-1e6, 1e6), max_size=50), st.integers(1, 20))
def test_smoothing_keeps_length_and_range(values, window):
    """A running mean that leaves the range of its values would draw losses that never were."""
    smoothed = smooth(values, window)
    assert len(smoothed) == len(values)
    if values:
        assert min(values) - 1e-6 <= min(smoothed)
        assert max(smoothed) <= max(values) + 1e-6
