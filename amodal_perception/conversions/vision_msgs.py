"""Scenes as vision_msgs detections, where that package is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from amodal_perception.planning.extents import Extent
from amodal_perception.structures import Scene


@dataclass(frozen=True)
class VisionMessages:
    """Makes messages of vision_msgs (version 4).

    Attributes:
        messages: the module ``vision_msgs.msg``.
    """

    messages: Any

    @classmethod
    def from_ros(cls) -> VisionMessages | None:
        """Import vision_msgs; None where it is not installed."""
        try:
            import vision_msgs.msg
        except ImportError:
            return None
        return cls(vision_msgs.msg)

    @property
    def detections_2d_type(self) -> Any:
        """The class of what `detections_2d` makes."""
        return self.messages.Detection2DArray

    @property
    def detections_3d_type(self) -> Any:
        """The class of what `detections_3d` makes."""
        return self.messages.Detection3DArray

    @property
    def label_info_type(self) -> Any:
        """The class of what `label_info` makes."""
        return self.messages.LabelInfo

    def detections_2d(self, scene: Scene, header: Any) -> Any:
        """Make a Detection2DArray of the visible boxes: what is seen, not what is guessed."""
        return self.detections_2d_type(
            header=header,
            detections=[
                self.messages.Detection2D(
                    header=header,
                    id=detection_id(scene, i),
                    results=[self._hypothesis(scene, i)],
                    bbox=self._box_2d(visible_box_xywh(scene, i)),
                )
                for i in range(len(scene.instances))
            ],
        )

    def detections_3d(self, scene: Scene, extents: tuple[Extent, ...], header: Any) -> Any:
        """Make a Detection3DArray of the amodal boxes, which are in part guessed.

        The measured part is the hypothesis' pose: its position is the middle of the visible
        surface's box, and the root of each position's variance is how far the amodal box reaches
        from there. Objects without depth are left out.
        """
        return self.detections_3d_type(
            header=header,
            detections=[
                self._detection_3d(scene, i, extent, header)
                for i, extent in enumerate(extents)
                if not extent.has_insufficient_depth
            ],
        )

    def label_info(self, class_names: tuple[str, ...], stamp: Any) -> Any:
        """Make a LabelInfo: the names of the classes."""
        info = self.messages.LabelInfo(
            class_map=[
                self.messages.VisionClass(class_id=i, class_name=name)
                for i, name in enumerate(class_names)
            ]
        )
        info.header.stamp = stamp
        return info

    def _hypothesis(self, scene: Scene, index: int) -> Any:
        result = self.messages.ObjectHypothesisWithPose()
        result.hypothesis.class_id = scene.class_names[int(scene.instances.labels[index])]
        result.hypothesis.score = float(scene.instances.scores[index])
        return result

    def _box_2d(self, box_xywh: tuple[int, int, int, int]) -> Any:
        x, y, width, height = box_xywh
        box = self.messages.BoundingBox2D(size_x=float(width), size_y=float(height))
        box.center.position.x = x + width / 2
        box.center.position.y = y + height / 2
        return box

    def _detection_3d(self, scene: Scene, index: int, extent: Extent, header: Any) -> Any:
        measured = (np.array(extent.measured_min_xyz) + extent.measured_max_xyz) / 2
        low, high = np.array(extent.amodal_min_xyz), np.array(extent.amodal_max_xyz)
        reach = np.maximum(high - measured, measured - low)
        result = self._hypothesis(scene, index)
        _set_xyz(result.pose.pose.position, measured)
        covariance = np.zeros((6, 6))
        covariance[np.arange(3), np.arange(3)] = reach**2
        result.pose.covariance = covariance.ravel()
        detection = self.messages.Detection3D(
            header=header, id=detection_id(scene, index), results=[result]
        )
        _set_xyz(detection.bbox.center.position, (low + high) / 2)
        _set_xyz(detection.bbox.size, high - low)
        return detection


def detection_id(scene: Scene, index: int) -> str:
    """Name an instance as all messages do: by its track, else by its number in the scene."""
    return scene.track_id(index) or str(index + 1)


def visible_box_xywh(scene: Scene, index: int) -> tuple[int, int, int, int]:
    """Return the tight box of an instance's visible pixels; of size 0 where there are none."""
    rows, columns = scene.instances.window(index)
    visible = scene.instances.visible_crops[index]
    if not visible.size:
        return columns.start, rows.start, 0, 0
    x, y, width, height = cv2.boundingRect(visible.view(np.uint8))
    return columns.start + x, rows.start + y, width, height


def _set_xyz(target: Any, xyz: Any) -> None:
    target.x, target.y, target.z = (float(v) for v in xyz)
