"""The node's publishers; no message is made for a topic without subscribers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import Point
from rclpy.node import Node
from sensor_msgs.msg import Image

from amodal_perception.conversions.images import array_to_message, rgb_to_message
from amodal_perception.conversions.vision_msgs import VisionMessages
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.msg import AmodalScene, ObjectExtent, ObjectExtents
from amodal_perception.planning.extents import Extent
from amodal_perception.planning.grasp_regions import graspable_masks
from amodal_perception.planning.label_image import label_image
from amodal_perception.ros.camera_subscription import newest_only
from amodal_perception.structures import Frame, Scene


@dataclass(frozen=True, eq=False)
class Observation:
    """One image, its scene, and the objects' extents where there is depth.

    Attributes:
        header: std_msgs/Header of the image.
        frame: the image.
        scene: of the image.
        extents: one per instance; None without depth.
        depth_offset_ns: stamp of the depth image minus that of the colour image.
    """

    header: Any
    frame: Frame
    scene: Scene
    extents: tuple[Extent, ...] | None = None
    depth_offset_ns: int = 0


class Outputs:
    """The publishers of a configured node."""

    def __init__(
        self,
        node: Node,
        class_names: tuple[str, ...],
        scene_message: Callable[[Scene], Any],
        overlay_period_s: Callable[[], float],
        grasp_margin_px: Callable[[], float],
    ) -> None:
        """Create the publishers.

        Args:
            node: owns them.
            class_names: what the model's labels index.
            scene_message: makes an AmodalScene.
            overlay_period_s: asked before each overlay for the least time since the last one.
            grasp_margin_px: asked for the margin of graspable regions; see `graspable_masks`.
        """
        self._node = node
        self._scene_message, self._overlay_period_s = scene_message, overlay_period_s
        self._grasp_margin_px = grasp_margin_px
        self._overlay_due_s = 0.0
        self._vision = VisionMessages.from_ros()
        types: dict[str, Any] = {
            "scene": AmodalScene,
            "visible_labels": Image,
            "graspable_labels": Image,
            "overlay": Image,
            "extents": ObjectExtents,
        }
        if self._vision is not None:
            types |= {
                "detections": self._vision.detections_2d_type,
                "detections_3d": self._vision.detections_3d_type,
            }
        self._publishers = {
            name: node.create_publisher(message_type, f"~/{name}", newest_only())
            for name, message_type in types.items()
        }
        if self._vision is not None:
            qos = newest_only(latched=True)
            info = node.create_publisher(self._vision.label_info_type, "~/label_info", qos)
            info.publish(self._vision.label_info(class_names, node.get_clock().now().to_msg()))
            self._label_info = info

    @property
    def are_wanted(self) -> bool:
        """Whether any topic with a message for every image has a subscriber."""
        return any(self._has_subscriber(name) for name in self._publishers)

    @property
    def need_depth(self) -> bool:
        """Whether a topic that needs depth has a subscriber."""
        return self._has_subscriber("extents") or self._has_subscriber("detections_3d")

    def make(self, observation: Observation) -> dict[str, Any]:
        """Make the messages of all topics with subscribers, by topic."""
        makers = {
            "scene": self._scene,
            "visible_labels": self._visible_labels,
            "graspable_labels": self._graspable_labels,
            "overlay": self._overlay,
            "extents": self._extents,
            "detections": self._detections,
            "detections_3d": self._detections_3d,
        }
        wanted = [name for name in self._publishers if self._has_subscriber(name)]
        made = {name: makers[name](observation) for name in wanted}
        return {name: message for name, message in made.items() if message is not None}

    def publish(self, messages: dict[str, Any]) -> None:
        """Publish what `make` made."""
        for name, message in messages.items():
            self._publishers[name].publish(message)

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        if self._vision is not None:
            self._node.destroy_publisher(self._label_info)
        self._publishers = {}

    def _has_subscriber(self, name: str) -> bool:
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _scene(self, observation: Observation) -> Any:
        started_s = time.monotonic()
        message = self._scene_message(observation.scene)
        # What it took to make the message is known only now that it is made.
        message.stage_names.append("message")
        message.stage_ms.append((time.monotonic() - started_s) * 1e3)
        return message

    def _visible_labels(self, observation: Observation) -> Any:
        instances = observation.scene.instances
        labels = label_image(instances, instances.visible)
        return array_to_message(labels, "mono16", observation.header, Image)

    def _graspable_labels(self, observation: Observation) -> Any:
        instances = observation.scene.instances
        graspable = graspable_masks(instances, self._grasp_margin_px())
        labels = label_image(instances, graspable)
        return array_to_message(labels, "mono16", observation.header, Image)

    def _overlay(self, observation: Observation) -> Any:
        now_s = time.monotonic()
        if now_s < self._overlay_due_s:
            return None
        self._overlay_due_s = now_s + self._overlay_period_s()
        picture = draw_scene(observation.frame.image, observation.scene)
        return rgb_to_message(picture, observation.header, Image)

    def _extents(self, observation: Observation) -> Any:
        if observation.extents is None:
            return None
        return ObjectExtents(
            header=observation.header,
            depth_offset_ns=observation.depth_offset_ns,
            extents=[
                ObjectExtent(
                    instance_id=i + 1,
                    track_id=observation.scene.track_id(i),
                    measured_min=_point(extent.measured_min_xyz),
                    measured_max=_point(extent.measured_max_xyz),
                    amodal_min=_point(extent.amodal_min_xyz),
                    amodal_max=_point(extent.amodal_max_xyz),
                    depth_px=extent.depth_px,
                    sides_guessed=extent.is_guessed,
                    truncated=extent.is_truncated,
                    insufficient_depth=extent.has_insufficient_depth,
                )
                for i, extent in enumerate(observation.extents)
            ],
        )

    def _detections(self, observation: Observation) -> Any:
        assert self._vision is not None
        return self._vision.detections_2d(observation.scene, observation.header)

    def _detections_3d(self, observation: Observation) -> Any:
        assert self._vision is not None
        if observation.extents is None:
            return None
        return self._vision.detections_3d(
            observation.scene, observation.extents, observation.header
        )


def _point(xyz: tuple[float, float, float]) -> Point:
    return Point(x=xyz[0], y=xyz[1], z=xyz[2])
