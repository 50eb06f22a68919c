from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances, mask, scene_of, stacked

from amodal_perception.conversions.scenes import MessageTypes, msg_to_scene, scene_to_msg
from amodal_perception.ordering import OrderingConfig
from amodal_perception.structures import Instances, Scene

pytest.importorskip("rosbags", reason="needs rosbags")
from rosbags.typesys import Stores, get_typestore

CUP = mask(
    ".....",
    ".###.",
    ".###.",
    "..#..",
)
BOX = mask(
    "##...",
    "####.",
    "####.",
    ".....",
)


@pytest.fixture(params=["ros", "rosbags"])
def types(request):
    if request.param == "ros":
        pytest.importorskip("amodal_perception.msg", reason="needs the built messages")
        return MessageTypes.from_ros()
    return MessageTypes.from_typestore(get_typestore(Stores.ROS2_JAZZY))


def make_scene(objects: Instances) -> Scene:
    return scene_of(
        objects,
        OrderingConfig(min_overlap_px=1),  # small drawings
        stamp_ns=1_700_000_000_123_456_789,
        frame_id="camera_color_optical_frame",
        model_id="drawing@0123456789ab",
        stages_ms={"preprocess": 0.5, "engine": 12.25},
    )


def interlocked() -> Instances:
    """Two objects that each hide a part of the other."""
    left = mask("####.", "####.", "####.", "####.")
    right = mask(".####", ".####", ".####", ".####")
    top = mask("#####", "#####", ".....", ".....")
    return instances([left, right], [left & (top | ~right), right & (~top | ~left)])


def test_fields_of_a_scene(types):
    message = scene_to_msg(make_scene(stacked(CUP, BOX)), types)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.header.frame_id == "camera_color_optical_frame"
    assert (message.image_width, message.image_height) == (5, 4)
    assert message.model_id == "drawing@0123456789ab"
    assert list(message.removal_order) == [1, 2]
    assert message.acyclic
    assert message.status == message.OK
    assert list(message.stage_names) == ["preprocess", "engine"]
    assert list(message.stage_ms) == [0.5, 12.25]

    cup, box = message.instances
    assert (cup.instance_id, cup.class_id, cup.class_name) == (1, 0, "object")
    assert cup.occlusion_ratio == 0
    assert cup.truncated  # the drawing's last row
    assert (cup.occluded.width, cup.occluded.area, len(cup.occluded.counts)) == (0, 0, 0)
    assert (box.visible.area, box.occluded.area, box.amodal.area) == (4, 6, 10)
    assert box.occlusion_ratio == pytest.approx(0.6)
    assert np.isnan(box.amodal_quality)
    occluded = box.occluded
    assert (occluded.x, occluded.y, occluded.width, occluded.height) == (1, 1, 3, 2)
    assert list(occluded.counts) == [0, 6]

    (edge,) = message.edges
    assert (edge.occluder_id, edge.occludee_id, edge.overlap_px) == (1, 2, 6)
    assert edge.hidden_fraction == pytest.approx(0.6)


@pytest.mark.parametrize(
    "objects",
    [
        stacked(CUP, BOX),
        stacked(BOX, CUP, BOX[::-1]),
        instances([CUP], [np.zeros_like(CUP)]),
        interlocked(),
        Instances.empty((4, 5)),
    ],
)
def test_scene_survives_the_round_trip(types, objects):
    scene = make_scene(objects)
    back = msg_to_scene(scene_to_msg(scene, types))
    np.testing.assert_array_equal(back.instances.amodal, objects.amodal)
    np.testing.assert_array_equal(back.instances.visible, objects.visible)
    np.testing.assert_array_equal(back.instances.windows_xyxy, objects.windows_xyxy)
    np.testing.assert_array_equal(back.instances.scores, objects.scores)
    np.testing.assert_array_equal(back.graph.edges, scene.graph.edges)
    np.testing.assert_array_equal(back.graph.overlap_px, scene.graph.overlap_px)
    np.testing.assert_array_equal(back.graph.removal_order, scene.graph.removal_order)
    np.testing.assert_allclose(back.graph.confidence, scene.graph.confidence)
    assert back.graph.cycles == scene.graph.cycles
    assert (back.stamp_ns, back.frame_id) == (scene.stamp_ns, scene.frame_id)
    assert (back.model_id, back.stages_ms) == (scene.model_id, scene.stages_ms)


def test_a_cycle_is_said():
    types = MessageTypes.from_typestore(get_typestore(Stores.ROS2_JAZZY))
    message = scene_to_msg(make_scene(interlocked()), types)
    assert not message.acyclic
    assert msg_to_scene(message).graph.cycles == ((0, 1),)


def test_ros_reads_what_rosbags_writes():
    pytest.importorskip("amodal_perception.msg", reason="needs the built messages")
    from rclpy.serialization import deserialize_message

    from amodal_perception.msg import AmodalScene

    typestore = get_typestore(Stores.ROS2_JAZZY)
    scene = make_scene(stacked(CUP, BOX))
    written = typestore.serialize_cdr(
        scene_to_msg(scene, MessageTypes.from_typestore(typestore)),
        "amodal_perception/msg/AmodalScene",
    )
    read = deserialize_message(bytes(written), AmodalScene)
    assert str(read) == str(scene_to_msg(scene, MessageTypes.from_ros()))


def test_refuses_an_unknown_instance(types):
    message = scene_to_msg(make_scene(stacked(CUP, BOX)), types)
    message.edges[0].occluder_id = 7
    with pytest.raises(ValueError, match="names instance 7"):
        msg_to_scene(message)
