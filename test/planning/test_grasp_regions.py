from __future__ import annotations

import numpy as np
from helpers.scenes import instances, mask, stacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.planning.grasp_regions import graspable_masks
from amodal_perception.structures import Instances

PLATE = mask(
    ".......",
    ".#####.",
    ".#####.",
    ".#####.",
    ".......",
)


def test_margin_one_takes_off_the_outline():
    expected = mask(
        ".......",
        ".......",
        "..###..",
        ".......",
        ".......",
    )
    np.testing.assert_array_equal(graspable_masks(instances([PLATE]), 1)[0], expected)


def test_no_margin_keeps_what_is_seen():
    pile = stacked(PLATE, np.ones_like(PLATE))
    np.testing.assert_array_equal(graspable_masks(pile, 0), pile.visible)


def test_border_of_the_image_is_an_edge():
    whole = np.ones((5, 6), np.bool_)
    grasp = graspable_masks(instances([whole]), 1)[0]
    np.testing.assert_array_equal(grasp, np.pad(np.ones((3, 4), np.bool_), 1))


def test_edge_towards_the_occluder_is_an_edge():
    behind = np.ones((7, 9), np.bool_)
    pile = stacked(mask(*["###......"] * 7), behind)
    grasp = graspable_masks(pile, 2)[1]
    np.testing.assert_array_equal(np.flatnonzero(grasp.any(axis=0)), [5, 6])


def test_thin_and_empty_objects_have_none():
    nothing = np.zeros_like(PLATE)
    assert not graspable_masks(instances([PLATE, nothing]), 3).any()
    assert graspable_masks(Instances.empty((4, 5)), 3).shape == (0, 4, 5)


@given(hnp.arrays(np.bool_, (2, 9, 10)), hnp.arrays(np.bool_, (2, 9, 10)), st.floats(0, 6))
def test_every_graspable_pixel_is_farther_from_the_edge_than_the_margin(amodal, seen, margin_px):
    drawn = instances(list(amodal), list(amodal & seen))
    for visible, grasp in zip(drawn.visible, graspable_masks(drawn, margin_px)):
        edge = np.argwhere(~np.pad(visible, 1)) - 1
        pixels = np.indices(visible.shape).reshape(2, -1).T
        away = np.sqrt(((pixels[:, None] - edge[None]) ** 2).sum(axis=2)).min(axis=1)
        sure = np.abs(away - margin_px) > 1e-3
        expected = (away > margin_px).reshape(visible.shape) & visible
        np.testing.assert_array_equal(grasp.ravel()[sure], expected.ravel()[sure])
