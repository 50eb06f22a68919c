"""Depth images and camera_info, matched to scenes by stamp as message_filters does."""

from __future__ import annotations

import math
import time
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image

from amodal_perception.conversions.cdr import message_stamp_ns
from amodal_perception.conversions.images import message_to_depth
from amodal_perception.errors import ImageError
from amodal_perception.planning.extents import Extent, Intrinsics, measure_extents
from amodal_perception.ros.camera_subscription import CameraSubscription
from amodal_perception.ros.stamp_buffer import StampBuffer
from amodal_perception.structures import Scene

# Depth is often published a little after the colours. Wait for it, but only while it comes.
WAIT_S = 0.1
ALIVE_S = 1.0


class DepthSubscription:
    """Subscribes to ``depth`` and ``camera_info``; both stay serialised until they are needed."""

    def __init__(self, node: Node) -> None:
        """Name the topics; `open` subscribes."""
        self._depths: StampBuffer[bytes] = StampBuffer()
        self._infos: StampBuffer[bytes] = StampBuffer()
        self._inputs = (
            CameraSubscription(node, "depth", Image, lambda cdr: _keep(self._depths, cdr)),
            CameraSubscription(
                node, "camera_info", CameraInfo, lambda cdr: _keep(self._infos, cdr)
            ),
        )

    def open(self) -> None:
        """Subscribe to both."""
        for topic in self._inputs:
            topic.open()

    def close(self) -> None:
        """Unsubscribe, and drop what was received."""
        for topic in self._inputs:
            topic.close()
        self.reset()

    def check(self) -> None:
        """Follow the publishers' QoS; to be called now and then."""
        for topic in self._inputs:
            topic.check()

    def reset(self) -> None:
        """Drop what was received."""
        self._depths.clear()
        self._infos.clear()

    def measure(
        self, scene: Scene, slop_s: float, max_pixels: int
    ) -> tuple[tuple[Extent, ...], int]:
        """Measure a scene's objects by the depth image nearest to it in time.

        Args:
            scene: its objects are measured.
            slop_s: largest difference of the stamps, seconds.
            max_pixels: larger depth images are refused.

        Returns:
            One extent per instance, and the depth's stamp minus the scene's, nanoseconds.

        Raises:
            ImageError: no depth or intrinsics that belong to this image, or not usable ones.
        """
        came_s = self._inputs[0].last_received_s
        is_alive = came_s is not None and time.monotonic() - came_s < ALIVE_S
        slop_ns = int(slop_s * 1e9)
        found = self._depths.find(scene.stamp_ns, slop_ns, WAIT_S if is_alive else 0.0)
        if found is None:
            raise ImageError(f"no depth within {slop_s * 1e3:.0f} ms on {self._inputs[0].topic}")
        # Intrinsics change rarely, and some drivers publish them once: the nearest, else the last.
        info = self._infos.find(scene.stamp_ns, slop_ns) or self._infos.newest()
        if info is None:
            raise ImageError(f"no intrinsics on {self._inputs[1].topic}")
        camera = intrinsics(deserialize(info, CameraInfo), scene.instances.size_hw)
        depth_m = message_to_depth(deserialize(found, Image), max_pixels)
        try:
            extents = measure_extents(scene.instances, depth_m, camera)
        except ValueError as error:
            raise ImageError(str(error)) from None
        return extents, message_stamp_ns(found) - scene.stamp_ns


def _keep(items: StampBuffer[bytes], cdr: bytes) -> None:
    try:
        items.put(message_stamp_ns(cdr), cdr)
    except ImageError:
        return  # too short to be one


def intrinsics(info: Any, size_hw: tuple[int, int]) -> Intrinsics:
    """Read a sensor_msgs/CameraInfo; distortion is left out, so the image should be rectified.

    Raises:
        ImageError: it is not calibrated, or belongs to an image of another size.
    """
    if (info.height, info.width) != size_hw:
        raise ImageError(
            f"camera_info is of {info.width} x {info.height} pixels, "
            f"the image of {size_hw[1]} x {size_hw[0]}"
        )
    fx, _, cx, _, fy, cy = (float(value) for value in info.k[:6])
    if not (fx > 0 and fy > 0 and all(math.isfinite(value) for value in (fx, fy, cx, cy))):
        raise ImageError(f"camera_info is not calibrated: fx {fx}, fy {fy}")
    return Intrinsics(fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy)


def deserialize(cdr: bytes, message_type: Any) -> Any:
    """Deserialise a message.

    Raises:
        ImageError: it is damaged.
    """
    try:
        return deserialize_message(cdr, message_type)
    except Exception as error:  # whatever the middleware raises for damaged bytes
        raise ImageError(f"damaged {message_type.__name__} message: {error}") from None
