"""Small charts as SVG text, with no plotting library: lines, points and stage bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 32, 14, 42
TICKS = 5
PALETTE = ("#2563eb", "#ea580c", "#0d9488", "#9333ea", "#64748b", "#ca8a04")


@dataclass(frozen=True)
class Series:
    """Numbers drawn together.

    Attributes:
        name: for the legend.
        xs: horizontal values.
        ys: vertical values.
        line: join them; else only points are drawn.
        color: of the line and points; empty takes the next of the palette.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    line: bool = True
    color: str = ""


@dataclass(frozen=True)
class Axes:
    """What the axes say and span; None takes the data's range, starting at 0 for y."""

    x_label: str
    y_label: str
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    marks: dict[str, float] = field(default_factory=dict)
    """Dashed horizontal lines by name."""
    whole_x: bool = False
    """Mark only whole numbers on the x axis."""


def plot(series: Sequence[Series], axes: Axes) -> str:
    """Draw series over common axes; returns an ``<svg>`` element."""
    xs = [x for s in series for x in s.xs]
    ys = [y for s in series for y in s.ys] + list(axes.marks.values())
    x_low, x_high = axes.x_range or _span(xs)
    y_low, y_high = axes.y_range or (0.0, max(ys, default=1.0) * 1.1 or 1.0)

    def to_x(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def to_y(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in ticks(y_low, y_high):
        parts.append(_line(LEFT, to_y(y), WIDTH - RIGHT, to_y(y), "#e5e7eb"))
        parts.append(_text(LEFT - 7, to_y(y) + 4, f"{y:g}", "end"))
    for x in ticks(x_low, x_high):
        if axes.whole_x and x != round(x):
            continue
        parts.append(_line(to_x(x), HEIGHT - BOTTOM, to_x(x), HEIGHT - BOTTOM + 4, "#9ca3af"))
        parts.append(_text(to_x(x), HEIGHT - BOTTOM + 17, f"{x:g}"))
    parts.append(_line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#9ca3af"))
    for i, s in enumerate(series):
        color = s.color or PALETTE[i % len(PALETTE)]
        points = [(to_x(x), to_y(y)) for x, y in zip(s.xs, s.ys)]
        if s.line and len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" '
                'stroke-linejoin="round"/>'
            )
        if not s.line or len(points) <= 40:
            opacity = 0.5 if len(points) > 60 else 0.85
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}" '
                f'fill-opacity="{opacity}"/>'
                for x, y in points
            ]
    label_y = float(HEIGHT)
    for name, y in sorted(axes.marks.items(), key=lambda mark: mark[1]):
        parts.append(_line(LEFT, to_y(y), WIDTH - RIGHT, to_y(y), "#6b7280", dashed=True))
        label_y = min(to_y(y) + 4, label_y - 12)  # close lines must not share a place
        parts.append(_text(WIDTH - RIGHT + 4, label_y, name, "start"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, axes.x_label, strong=True))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<g transform="translate(13 {middle:.0f}) rotate(-90)">'
        f"{_text(0, 0, axes.y_label, strong=True)}</g>"
    )
    legend = [(s.name, s.color or PALETTE[i % len(PALETTE)]) for i, s in enumerate(series)]
    return _svg(WIDTH, HEIGHT, parts) + _legend(legend)


def stage_bars(stages_ms: dict[str, dict[str, float]]) -> str:
    """Draw a bar for each stage's p50, with whiskers to p95 and p99; milliseconds."""
    row_height, label_width = 30, 96
    longest = max((stage["p99"] for stage in stages_ms.values()), default=1.0) or 1.0
    scale = (WIDTH - label_width - 84) / longest
    height = row_height * len(stages_ms) + 34
    parts = []
    for i, (name, stage) in enumerate(stages_ms.items()):
        y = 8 + i * row_height
        middle = y + 9
        p50, p95, p99 = (label_width + stage[key] * scale for key in ("p50", "p95", "p99"))
        parts.append(_text(label_width - 8, middle + 4, name, "end", strong=True))
        parts.append(
            f'<rect x="{label_width}" y="{y}" width="{max(p50 - label_width, 1):.1f}" '
            f'height="18" rx="3" fill="{PALETTE[0]}" fill-opacity="0.85"/>'
        )
        parts.append(_line(p50, middle, p99, middle, "#1e3a8a"))
        parts.append(_line(p95, middle - 5, p95, middle + 5, "#1e3a8a"))
        parts.append(_line(p99, middle - 5, p99, middle + 5, "#1e3a8a"))
        parts.append(_text(p99 + 7, middle + 4, f"{stage['p50']:.2f} ms", "start"))
    parts.append(
        _text(label_width, height - 6, "bar: p50, whiskers: p95 and p99, milliseconds", "start")
    )
    return _svg(WIDTH, height, parts)


def ticks(low: float, high: float) -> list[float]:
    """Return round values inside a range, about `TICKS` of them."""
    step = 10 ** math.floor(math.log10((high - low) / TICKS))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= TICKS + 0.5)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img">'
        + "".join(parts)
        + "</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{color}" stroke-width="1.2"{dash}/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", strong: bool = False) -> str:
    style = ' class="axis"' if strong else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    if len(entries) < 2:
        return ""
    items = "".join(
        f'<span><i style="background:{color}"></i>{escape(name)}</span>' for name, color in entries
    )
    return f'<div class="key">{items}</div>'
