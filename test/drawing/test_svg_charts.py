from __future__ import annotations

from xml.etree import ElementTree

import pytest

from amodal_perception.drawing.svg_charts import Axes, Series, plot, stage_bars, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 57, [0, 20, 40]),
        (-0.5, 1.5, [-0.5, 0, 0.5, 1, 1.5]),
        (0, 0.0034, [0, 0.001, 0.002, 0.003]),
        (3, 1003, [200, 400, 600, 800, 1000]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("ys", [[], [5.0], [0.0, 0.0], [1.0, 2.0, 3.0]])
def test_plot_is_well_formed_and_inside_the_frame(ys):
    series = [Series("a < b", range(len(ys)), ys)]
    root = ElementTree.fromstring(plot(series, Axes("x & y", "ms", marks={"p50": 2.0})))
    circles = root.findall("circle")
    assert len(circles) == len(ys)
    width, height = (float(n) for n in root.get("viewBox").split()[2:])
    for circle in circles:
        assert 0 < float(circle.get("cx")) < width
        assert 0 < float(circle.get("cy")) < height
    assert "x & y" in [text.text for text in root.findall("text")]


def test_higher_values_are_drawn_higher():
    root = ElementTree.fromstring(plot([Series("a", [0, 1], [1.0, 2.0])], Axes("x", "y")))
    low, high = (float(circle.get("cy")) for circle in root.findall("circle"))
    assert high < low


def test_stage_bars_are_in_proportion():
    stages = {"engine": {"p50": 20.0, "p95": 30.0, "p99": 40.0}, "rest": dict.fromkeys(
        ("p50", "p95", "p99"), 10.0
    )}  # fmt: skip
    root = ElementTree.fromstring(stage_bars(stages))
    engine, rest = (float(bar.get("width")) for bar in root.findall("rect"))
    assert engine == pytest.approx(2 * rest, rel=0.01)
