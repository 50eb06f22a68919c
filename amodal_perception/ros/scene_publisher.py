"""A bare publisher of scenes, for the benchmark: the cost of publishing alone."""

from __future__ import annotations

from typing import Any

import rclpy

from amodal_perception.msg import AmodalScene
from amodal_perception.ros.camera_subscription import newest_only


class ScenePublisher:
    """Publishes AmodalScenes on ``/<name>/scene`` as the node does, until the process ends."""

    def __init__(self, name: str) -> None:
        """Join DDS."""
        rclpy.init()
        self._node = rclpy.create_node(name)
        self._publisher = self._node.create_publisher(AmodalScene, "~/scene", newest_only())

    def __call__(self, message: Any) -> None:
        """Publish a message."""
        self._publisher.publish(message)
