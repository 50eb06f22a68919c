"""An occlusion graph as a small SVG: front objects on top, arrows from occluder to occludee."""

from __future__ import annotations

import math

from amodal_perception.drawing.overlay import instance_colors, text_color
from amodal_perception.structures import Scene, UInt8Array

WIDTH = 320
ROW_HEIGHT = 58
RADIUS = 15


def draw_graph(scene: Scene, colors: UInt8Array | None = None) -> str:
    """Draw who hides whom.

    An object's row is the longest chain of objects in front of it; within a row, objects keep
    their left-to-right order in the image. Arrows are fainter where the model is less sure, and
    red between objects that hide each other. Objects without any edge come last.

    Args:
        scene: its graph is drawn.
        colors: [N, 3] uint8 RGB, one for each instance; None takes `instance_colors`.

    Returns:
        An ``<svg>`` element; empty text for a scene without instances.
    """
    graph = scene.graph
    count = len(scene.instances)
    if count == 0:
        return ""
    rows = _rows(scene)
    height = ROW_HEIGHT * len(rows) + 8
    place: dict[int, tuple[float, float]] = {}
    for r, row in enumerate(rows):
        for k, index in enumerate(row):
            place[index] = (WIDTH * (k + 0.5) / len(row), 29 + r * ROW_HEIGHT)
    cycle_of = {index: c for c, group in enumerate(graph.cycles) for index in group}

    parts = []
    for (occluder, occludee), confidence in zip(graph.edges.tolist(), graph.confidence):
        cyclic = occluder in cycle_of and cycle_of[occluder] == cycle_of.get(occludee)
        color = "#dc2626" if cyclic else "#334155"
        opacity = 0.3 + 0.7 * float(confidence)
        parts.append(_arrow(place[occluder], place[occludee], color, opacity))
    if colors is None:
        colors = instance_colors(count)
    for index, (x, y) in sorted(place.items()):
        red, green, blue = (int(c) for c in colors[index])
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" fill="rgb({red},{green},{blue})" '
            'stroke="#1f2937" stroke-width="1.2"/>'
            f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" class="node" '
            f'style="fill:{text_color(colors[index])}">{index}</text>'
        )
    return (
        f'<svg class="graph" viewBox="0 0 {WIDTH} {height}" role="img">'
        + "".join(parts)
        + "</svg>"
    )


def _rows(scene: Scene) -> list[list[int]]:
    """Sort instances into rows, front first; those without edges fill rows at the end."""
    graph = scene.graph
    position = {int(index): p for p, index in enumerate(graph.removal_order)}
    depth = dict.fromkeys(position, 0)
    for occluder, occludee in sorted(graph.edges.tolist(), key=lambda edge: position[edge[0]]):
        if position[occluder] < position[occludee]:
            depth[occludee] = max(depth[occludee], depth[occluder] + 1)
    boxes = scene.instances.boxes_xyxy
    centre_x = (boxes[:, 0] + boxes[:, 2]) / 2
    linked = set(graph.edges.reshape(-1).tolist())
    rows = [
        sorted((i for i in linked if depth[i] == d), key=lambda i: centre_x[i])
        for d in range(max((depth[i] for i in linked), default=-1) + 1)
    ]
    rows.append(sorted(set(depth) - linked, key=lambda i: centre_x[i]))
    return [part for row in rows for part in _split(row)]


def _split(row: list[int]) -> list[list[int]]:
    """Cut a row that is too full into rows of about the same length."""
    per_row = WIDTH // (2 * RADIUS + 6)
    count = math.ceil(len(row) / per_row)
    return [row[i * len(row) // count : (i + 1) * len(row) // count] for i in range(count)]


def _arrow(
    start: tuple[float, float], end: tuple[float, float], color: str, opacity: float
) -> str:
    """Draw a slightly bent arrow between two nodes' rims, so that opposite ones stay apart."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    ux, uy = dx / length, dy / length
    bend = 0.12 * length
    middle = (start[0] + end[0]) / 2 - uy * bend, (start[1] + end[1]) / 2 + ux * bend
    x1, y1 = _towards(start, middle, RADIUS + 1)
    x2, y2 = _towards(end, middle, RADIUS + 2)
    tip = math.atan2(y2 - middle[1], x2 - middle[0])
    head = " ".join(
        f"{x2 - size * math.cos(tip + turn):.1f},{y2 - size * math.sin(tip + turn):.1f}"
        for size, turn in ((0.0, 0.0), (9.0, 0.42), (9.0, -0.42))
    )
    return (
        f'<g opacity="{opacity:.2f}"><path d="M{x1:.1f},{y1:.1f} Q{middle[0]:.1f},{middle[1]:.1f} '
        f'{x2:.1f},{y2:.1f}" fill="none" stroke="{color}" stroke-width="1.6"/>'
        f'<polygon points="{head}" fill="{color}"/></g>'
    )


def _towards(
    start: tuple[float, float], end: tuple[float, float], distance: float
) -> tuple[float, float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    return start[0] + dx / length * distance, start[1] + dy / length * distance
