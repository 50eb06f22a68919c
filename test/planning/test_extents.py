from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.planning.camera_model import project_points
from amodal_perception.planning.extents import MIN_DEPTH_PX, Intrinsics, measure_extents
from amodal_perception.structures import Instances

CAMERA = Intrinsics(fx_px=100.0, fy_px=50.0, cx_px=31.5, cy_px=23.5)
SIZE_HW = 48, 64


def rectangles(amodal_xyxy, visible_xyxy) -> Instances:
    """Make one instance of two rectangles."""
    masks = np.zeros((2, 1, *SIZE_HW), np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, (amodal_xyxy, visible_xyxy)):
        mask[0, y0:y1, x0:x1] = True
    return instances(*masks)


def test_a_flat_object_that_is_seen_whole():
    seen = rectangles((22, 14, 42, 34), (22, 14, 42, 34))
    (extent,) = measure_extents(seen, np.full(SIZE_HW, 2.0, np.float32), CAMERA)
    # 20 pixels are 0.4 m across at 2 m with fx = 100, and 0.8 m high with fy = 50.
    assert extent.amodal_min_xyz == pytest.approx((-0.2, -0.4, 2.0))
    assert extent.amodal_max_xyz == pytest.approx((0.2, 0.4, 2.8))  # as deep as it is high
    assert extent.measured_min_xyz == pytest.approx((-0.19, -0.38, 2.0))  # centres of pixels
    assert extent.measured_max_xyz == pytest.approx((0.19, 0.38, 2.0))
    assert extent.depth_px == 400
    assert not extent.is_guessed
    assert not extent.is_truncated
    assert not extent.has_insufficient_depth


def test_hidden_and_cut_objects_say_so():
    half_hidden = rectangles((0, 14, 42, 34), (22, 14, 42, 34))
    (extent,) = measure_extents(half_hidden, np.full(SIZE_HW, 2.0, np.float32), CAMERA)
    assert extent.is_guessed
    assert extent.is_truncated
    assert extent.amodal_min_xyz[0] == pytest.approx((-0.5 - 31.5) / 100 * 2)
    assert extent.measured_min_xyz[0] == pytest.approx((22 - 31.5) / 100 * 2)


def test_depth_of_what_lies_behind_is_left_out():
    depth = np.full(SIZE_HW, 1.0, np.float32)
    depth[14, 22:26] = 9.0  # 1 % of the object's pixels, at its edge
    seen = rectangles((22, 14, 42, 34), (22, 14, 42, 34))
    (extent,) = measure_extents(seen, depth, CAMERA)
    assert extent.measured_max_xyz[2] == pytest.approx(1.0)


@pytest.mark.parametrize("known_px", [0, MIN_DEPTH_PX - 1])
def test_too_little_depth_gives_no_numbers(known_px):
    depth = np.full(SIZE_HW, np.nan, np.float32)
    depth[14:34, 22:42] = np.where(np.arange(400) < known_px, 1.0, np.nan).reshape(20, 20)
    seen = rectangles((22, 14, 42, 34), (22, 14, 42, 34))
    (extent,) = measure_extents(seen, depth, CAMERA)
    assert extent.has_insufficient_depth
    assert extent.depth_px == known_px
    assert np.isnan(extent.amodal_max_xyz).all()


def test_a_lens_that_bends_is_undone():
    """A wall 2 m away, seen through a lens: the object's sides are where they really are."""
    lens = Intrinsics(100.0, 100.0, 31.5, 23.5, distortion=(-0.3, 0.0, 0.0, 0.0))
    left_m, right_m = -0.5, 0.3  # on the row of the optical axis
    ends_px = project_points(lens, np.array([[left_m, 0.0, 2.0], [right_m, 0.0, 2.0]]))[:, 0]
    x0, x1 = np.rint(ends_px + 0.5).astype(int)
    seen = rectangles((x0, 14, x1, 34), (x0, 14, x1, 34))
    (extent,) = measure_extents(seen, np.full(SIZE_HW, 2.0, np.float32), lens)
    half_pixel_m = 0.5 / 100 * 2
    # The corners of the rectangle reach a little further than its middle row.
    assert left_m - 3 * half_pixel_m < extent.amodal_min_xyz[0] < left_m + half_pixel_m
    assert right_m - half_pixel_m < extent.amodal_max_xyz[0] < right_m + 3 * half_pixel_m
    flat = Intrinsics(100.0, 100.0, 31.5, 23.5)
    (without,) = measure_extents(seen, np.full(SIZE_HW, 2.0, np.float32), flat)
    assert extent.amodal_min_xyz[0] < without.amodal_min_xyz[0]


def test_outside_the_lens_model_nothing_is_measured():
    lens = Intrinsics(20.0, 20.0, 31.5, 23.5, distortion=(-0.3, 0.0, 0.0, 0.0))
    seen = rectangles((0, 0, 64, 48), (0, 0, 64, 48))
    (extent,) = measure_extents(seen, np.full(SIZE_HW, 2.0, np.float32), lens)
    assert extent.has_insufficient_depth
    assert np.isnan(extent.measured_min_xyz).all()


def test_depth_must_be_aligned():
    with pytest.raises(ValueError, match="give depth aligned with colour"):
        measure_extents(Instances.empty(SIZE_HW), np.ones((24, 32), np.float32), CAMERA)


def test_nothing_seen_has_no_extents():
    assert measure_extents(Instances.empty(SIZE_HW), np.ones(SIZE_HW, np.float32), CAMERA) == ()


boxes = st.tuples(st.integers(0, 50), st.integers(0, 34), st.integers(8, 14), st.integers(8, 14))


@settings(max_examples=50, deadline=None)
@given(boxes, st.integers(0, 2**31))
def test_what_is_measured_lies_in_what_is_assumed(box, seed):
    x, y, width, height = box
    rng = np.random.default_rng(seed)
    whole = x, y, x + width, y + height
    part = x + rng.integers(width), y, x + width, y + height
    depth = rng.uniform(0.5, 3.0, SIZE_HW).astype(np.float32)
    (extent,) = measure_extents(rectangles(whole, part), depth, CAMERA)
    if not extent.has_insufficient_depth:
        slack_m = 1e-6
        low, high = np.array(extent.amodal_min_xyz), np.array(extent.amodal_max_xyz)
        assert np.all(low - slack_m <= extent.measured_min_xyz)
        assert np.all(high + slack_m >= extent.measured_max_xyz)
