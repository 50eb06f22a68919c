"""A depth camera beside the colour camera: publishers of depth and camera_info."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np

from helpers.running_node import Camera
from helpers.rvl_encoding import encode_rvl

SIZE_HW = 48, 64
FX_PX = 100.0
MM_PER_M = 1000


class DepthCamera:
    """Publishes depth and camera_info for a `Camera`, and collects extents."""

    def __init__(self, camera: Camera) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo

        from amodal_perception.msg import ObjectExtents

        self.camera, self.info_type = camera, CameraInfo
        self.latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self.extents: list = []
        self._extents_type = ObjectExtents
        self._listener = None
        self.listen()

    def listen(self) -> None:
        """Subscribe to the extents; the node then reads depth."""
        self._listener = self.camera.node.create_subscription(
            self._extents_type,
            "/amodal_perception/extents",
            self.extents.append,
            self.camera.reliable,
        )

    def stop_listening(self) -> None:
        """Unsubscribe."""
        self.camera.node.destroy_subscription(self._listener)

    def depth_publisher(self, topic: str = "/depth"):
        """Make a publisher of depth images."""
        return self.camera.node.create_publisher(
            self.camera.image_type, topic, self.camera.reliable
        )

    def info_publisher(self, qos=None, topic: str = "/camera_info"):
        """Make a publisher of camera_info."""
        return self.camera.node.create_publisher(
            self.info_type, topic, self.camera.reliable if qos is None else qos
        )

    def info(self, second: int, **fields):
        """Make the camera_info of a rectified image."""
        height, width = SIZE_HW
        message = self.info_type(header=self.camera.header(second), width=width, height=height)
        message.k[:6] = [FX_PX, 0.0, 31.5, 0.0, FX_PX, 23.5]
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def depth(self, second: int, distance_m: float, header=None):
        """Make a 16UC1 image of one distance."""
        from amodal_perception.conversions.images import array_to_message

        samples = np.full(SIZE_HW, round(distance_m * MM_PER_M), np.uint16)
        header = self.camera.header(second) if header is None else header
        return array_to_message(samples, "16UC1", header, self.camera.image_type)

    def compressed_depth_publisher(self, topic: str):
        """Make a publisher of compressed depth images."""
        return self.camera.node.create_publisher(
            self.camera.compressed_type, topic, self.camera.reliable
        )

    def compressed_depth(self, second: int, units: int, coder: str):
        """Make a compressedDepth message of one distance."""
        samples = np.full(SIZE_HW, units, np.uint16)
        return self.camera.compressed_type(
            header=self.camera.header(second),
            format=f"16UC1; compressedDepth {coder}",
            data=array.array("B", compress_depth(samples, coder)),
        )

    def extents_of(self, second: int, publish) -> object:
        """Call `publish` until the extents of an image arrive; return them."""

        def measured():
            publish()
            self.camera.wait(0.05)
            return any(message.header.stamp.sec == second for message in self.extents)

        self.camera.spin_until(measured, f"extents {second}")
        return next(m for m in self.extents if m.header.stamp.sec == second)


def compress_depth(
    samples: np.ndarray, coder: str = "png", a_b: tuple[float, float] = (0, 0)
) -> bytes:
    """Write the data of a compressedDepth message: a header of 12 bytes, then PNG or RVL."""
    header = struct.pack("<iff", 0, *a_b)
    if coder == "png":
        return header + cv2.imencode(".png", samples)[1].tobytes()
    height, width = samples.shape
    return header + struct.pack("<II", width, height) + encode_rvl(samples)
