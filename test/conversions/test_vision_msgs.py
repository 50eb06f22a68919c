"""Scenes as the messages of vision_msgs."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances, scene_of

pytest.importorskip("vision_msgs.msg", reason="needs vision_msgs, which has no wheel")
from std_msgs.msg import Header

from amodal_perception.conversions.vision_msgs import VisionMessages
from amodal_perception.planning.extents import Intrinsics, measure_extents
from amodal_perception.structures import Scene

CAMERA = Intrinsics(fx_px=50.0, fy_px=50.0, cx_px=31.5, cy_px=23.5)
HEADER = Header(frame_id="wrist_camera")


@pytest.fixture
def scene() -> Scene:
    """Draw a square, a second one half behind it, and one in the dark."""
    amodal = np.zeros((3, 48, 64), np.bool_)
    amodal[0, 10:30, 10:30] = amodal[1, 10:30, 20:40] = amodal[2, 35:45, 50:60] = True
    visible = amodal.copy()
    visible[1, :, :30] = False
    objects = instances(amodal, visible, [0.9, 0.8, 0.7], [0, 1, 0])
    return scene_of(objects, stamp_ns=5, class_names=("cup", "box"), track_ids=("a-1", "", ""))


def test_boxes_are_those_of_what_is_seen(scene):
    messages = VisionMessages.from_ros()
    detections = messages.detections_2d(scene, HEADER).detections
    boxes = [
        (d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y)
        for d in detections
    ]
    assert boxes[:2] == [(20.0, 20.0, 20.0, 20.0), (35.0, 20.0, 10.0, 20.0)]
    assert [d.id for d in detections] == ["a-1", "2", "3"]
    assert [d.results[0].hypothesis.class_id for d in detections] == ["cup", "box", "cup"]
    assert detections[0].header.frame_id == "wrist_camera"


def test_3d_boxes_tell_the_measured_from_the_assumed(scene):
    depth = np.full((48, 64), 1.0, np.float32)
    depth[35:] = np.nan
    extents = measure_extents(scene.instances, depth, CAMERA)
    messages = VisionMessages.from_ros()
    detections = messages.detections_3d(scene, extents, HEADER).detections
    assert [d.id for d in detections] == ["a-1", "2"]  # the one without depth is left out
    behind = detections[1]
    assert behind.bbox.size.x == pytest.approx(20 / 50)
    measured = behind.results[0].pose.pose.position
    assert measured.x == pytest.approx((34.5 - 31.5) / 50)  # the middle of columns 30 to 39
    reach = np.sqrt(np.diag(np.reshape(behind.results[0].pose.covariance, (6, 6)))[:3])
    assert measured.x - reach[0] == pytest.approx(behind.bbox.center.position.x - 0.2)
    assert measured.z == pytest.approx(1.0)


def test_classes_have_names():
    info = VisionMessages.from_ros().label_info(("cup", "box"), HEADER.stamp)
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "cup"), (1, "box")]
