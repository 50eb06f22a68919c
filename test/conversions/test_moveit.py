"""Boxes as MoveIt's collision objects."""

from __future__ import annotations

import pytest

from amodal_perception.planning.planner_inputs import Box


def test_moveit_takes_the_box():
    pytest.importorskip("moveit_msgs", reason="needs MoveIt's messages, which have no wheel")
    from rclpy.serialization import deserialize_message, serialize_message
    from std_msgs.msg import Header

    from amodal_perception.conversions.moveit import collision_object

    box = Box((0.1, 0.2, 0.7), (0.3, 0.4, 0.5))
    message = collision_object(box, object_id="a1-7", header=Header(frame_id="camera"))
    read = deserialize_message(serialize_message(message), type(message))
    assert (read.id, read.header.frame_id, read.operation) == ("a1-7", "camera", read.ADD)
    assert (read.pose.position.x, read.pose.position.z, read.pose.orientation.w) == (0.1, 0.7, 1)
    assert list(read.primitives[0].dimensions) == [0.3, 0.4, 0.5]
    assert read.primitives[0].type == read.primitives[0].BOX
    assert len(read.primitive_poses) == 1


def test_moveit_that_is_missing_is_named():
    from amodal_perception.conversions.moveit import collision_object
    from amodal_perception.errors import AmodalError

    try:
        import moveit_msgs  # noqa: F401
    except ImportError:
        with pytest.raises(AmodalError, match=r"moveit-msgs|geometry_msgs"):
            collision_object(Box((0, 0, 0), (1, 1, 1)), object_id="1", header=None)
    else:
        pytest.skip("MoveIt's messages are installed")
