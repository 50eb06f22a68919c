from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
from helpers.scenes import instances, scene_of, stacked

from amodal_perception.drawing.graph_svg import draw_graph
from amodal_perception.structures import Instances, Scene


def row_of_squares(count: int, step: int) -> Scene:
    """Squares of 16 pixels; with a step below 16 each hides part of the next."""
    amodal = np.zeros((count, 20, 16 + step * count), np.bool_)
    for i in range(count):
        amodal[i, 2:18, step * i : step * i + 16] = True
    return scene_of(stacked(*amodal))


def nodes(svg: str) -> dict[int, tuple[float, float]]:
    texts = ElementTree.fromstring(svg).findall("text")
    return {int(text.text): (float(text.get("x")), float(text.get("y"))) for text in texts}


def test_occluders_are_above_what_they_hide():
    drawn = draw_graph(row_of_squares(4, 12))
    heights = [nodes(drawn)[i][1] for i in range(4)]
    assert heights == sorted(set(heights))
    assert len(ElementTree.fromstring(drawn).findall("g")) == 3


def test_objects_without_occlusion_share_a_row_left_to_right():
    places = nodes(draw_graph(row_of_squares(5, 20)))
    assert len({y for _, y in places.values()}) == 1
    xs = [places[i][0] for i in range(5)]
    assert xs == sorted(set(xs))


def test_full_rows_are_split_so_that_nodes_stay_apart():
    places = list(nodes(draw_graph(row_of_squares(25, 20))).values())
    assert len(places) == 25
    distances = [
        np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(places) for b in places[:i]
    ]
    assert min(distances) > 30


def test_objects_that_hide_each_other_are_marked():
    amodal = np.zeros((2, 20, 40), np.bool_)
    amodal[0, :, :30] = True
    amodal[1, :, 10:] = True
    visible = amodal.copy()
    visible[0, :10, 10:] = False
    visible[1, 10:, :30] = False
    drawn = draw_graph(scene_of(instances(amodal, visible)))
    assert drawn.count('stroke="#dc2626"') == 2
    assert 'stroke="#dc2626"' not in draw_graph(row_of_squares(2, 8))


def test_nothing_to_draw():
    assert draw_graph(scene_of(Instances.empty((8, 8)))) == ""
