"""Boxes as MoveIt collision objects; MoveIt's messages are imported late."""

from __future__ import annotations

from typing import Any

from amodal_perception.errors import AmodalError
from amodal_perception.planning.planner_inputs import Box


def collision_object(box: Box, *, object_id: str, header: Any) -> Any:
    """Make a moveit_msgs/CollisionObject that adds a box to the planning scene.

    Args:
        box: in the frame of `header`; see `planning.planner_inputs.collision_box`.
        object_id: its name in the planning scene. With the track id, an object that is seen again
            moves its box instead of adding another.
        header: std_msgs/Header of the scene; TF must know its frame at its stamp.

    Raises:
        AmodalError: MoveIt's messages are not installed.
    """
    try:
        from geometry_msgs.msg import Point, Pose
        from moveit_msgs.msg import CollisionObject
        from shape_msgs.msg import SolidPrimitive
    except ImportError as error:
        raise AmodalError(f"{error}; install it, e.g. ros-$ROS_DISTRO-moveit-msgs") from None
    x, y, z = box.centre_xyz
    primitive = SolidPrimitive(type=SolidPrimitive.BOX, dimensions=list(box.size_xyz))
    return CollisionObject(
        header=header,
        id=object_id,
        pose=Pose(position=Point(x=x, y=y, z=z)),
        primitives=[primitive],
        primitive_poses=[Pose()],  # in the object's own frame: its middle
        operation=CollisionObject.ADD,
    )
