"""What the network gives, pasted at image size: nothing owned, nothing dropped."""

import numpy as np
import pytest

from amodal_perception.preprocess import letterbox
from amodal_perception.raw_masks import paste_detections
from amodal_perception.runtime import RawDetections

INPUT_HW = (24, 32)


LOST_PX = 4
"""Corners of a full mask: what lies beyond the grid counts as zero, in both directions there."""


def transform_of(camera_hw):
    return letterbox(np.zeros((*camera_hw, 3), np.uint8), INPUT_HW)[1]


def detections(boxes, scores=None, labels=None, **masks):
    """Build outputs of the network; masks are grids [m, m] or one number, the same for all."""
    n = len(boxes)
    grids = {
        kind: np.broadcast_to(np.asarray(values, np.float32), (n, 4, 4)).copy()
        for kind, values in {"amodal": 1.0, "visible": 1.0, **masks}.items()
    }
    return RawDetections(
        np.asarray(boxes, np.float32).reshape(n, 4),
        np.linspace(0.9, 0.8, n, dtype=np.float32) if scores is None else np.float32(scores),
        np.zeros(n, np.int64) if labels is None else np.int64(labels),
        **grids,
    )


def test_two_classes_on_one_box_are_both_kept_whole():
    raw = detections([[4, 4, 20, 20]] * 2, labels=[0, 1])
    found = paste_detections(raw, transform_of(INPUT_HW))
    assert found.labels.tolist() == [0, 1]
    for kind in ("amodal", "visible"):
        first, second = found.masks[kind]
        assert first.sum() == second.sum() == 16 * 16 - LOST_PX


def test_every_score_above_zero_counts_unless_asked_otherwise():
    raw = detections([[4, 4, 20, 20]] * 3, scores=[0.5, 1e-7, 0.0])
    assert len(paste_detections(raw, transform_of(INPUT_HW))) == 2
    assert len(paste_detections(raw, transform_of(INPUT_HW), score_threshold=0.4)) == 1


def test_a_mask_below_the_threshold_stays_as_a_detection_without_pixels():
    found = paste_detections(detections([[4, 4, 20, 20]], visible=0.4), transform_of(INPUT_HW))
    assert found.masks["amodal"][0].any()
    assert not found.masks["visible"][0].any()


def test_boxes_are_those_of_the_camera_and_masks_reach_no_farther_than_a_pixel():
    found = paste_detections(detections([[8, 6, 16, 12]]), transform_of((48, 64)))
    assert found.boxes_xyxy.tolist() == [[16, 12, 32, 24]]
    assert found.windows_xyxy.tolist() == [[15, 11, 33, 25]]
    assert found.masks["amodal"][0].sum() == 12 * 16 - LOST_PX


def test_a_box_beyond_the_border_keeps_its_mask_in_place():
    """The mask belongs to the whole box; cutting the box first would squeeze it."""
    right_half = np.tile(np.repeat([0.0, 1.0], 2), (4, 1))
    found = paste_detections(
        detections([[-16, 4, 16, 20]], amodal=right_half), transform_of(INPUT_HW)
    )
    assert found.boxes_xyxy.tolist() == [[0, 4, 16, 20]]
    x0, y0, x1, _ = found.windows_xyxy[0]
    assert (x0, x1) == (0, 17)
    assert found.masks["amodal"][0][8 - y0 : 16 - y0, :16].all()


@pytest.mark.parametrize(
    "box",
    [[np.nan, 4, 20, 20], [4, 4, np.inf, 20], [40, 4, 60, 20], [4, 4, 4, 20], [20, 4, 10, 20]],
)
def test_boxes_of_no_use_are_left_out(box):
    raw = detections([box, [4, 4, 20, 20]])
    found = paste_detections(raw, transform_of(INPUT_HW))
    assert found.boxes_xyxy.tolist() == [[4, 4, 20, 20]]


def test_the_own_mask_of_the_hidden_part_is_pasted_where_there_is_one():
    raw = detections([[4, 4, 20, 20]], occluded=np.pad(np.ones((2, 4)), ((0, 2), (0, 0))))
    found = paste_detections(raw, transform_of(INPUT_HW))
    assert set(found.masks) == {"amodal", "visible", "occluded"}
    assert found.masks["occluded"][0].sum() == 8 * 16 - LOST_PX
