"""Depth images and camera_info, matched to images by stamp as message_filters does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from amodal_perception.conversions.camera_info import camera_of_image
from amodal_perception.conversions.cdr import message_stamp_ns
from amodal_perception.conversions.depth_images import message_to_depth
from amodal_perception.errors import ImageError
from amodal_perception.planning.camera_model import Intrinsics
from amodal_perception.ros.camera_subscription import CameraSubscription, transport_topic
from amodal_perception.ros.stamp_buffer import Match, StampBuffer
from amodal_perception.structures import FloatArray, Frame

# Depth is often published a little after the colours. Wait for it, but only while it comes.
WAIT_S = 0.1
ALIVE_S = 1.0
COMPRESSED_DEPTH = "compressedDepth"


@dataclass(frozen=True, eq=False)
class BoundDepth:
    """What belongs to an image by its stamp, bound when the image arrives."""

    depth: Match[bytes]
    camera_info: Match[bytes]


@dataclass(frozen=True, eq=False)
class RegisteredDepth:
    """A depth image that fits an image pixel by pixel.

    Attributes:
        depth_m: [H, W] float32, metres along the optical axis; NaN where unknown.
        offset_ns: its stamp minus that of the image.
    """

    depth_m: FloatArray
    offset_ns: int


@dataclass(frozen=True)
class DepthSettings:
    """How depth and camera_info are understood.

    Attributes:
        max_pixels: larger depth images are refused.
        metres_per_unit: see `message_to_depth`.
        geometry: see `camera_info.is_rectified`.
    """

    max_pixels: int
    metres_per_unit: float
    geometry: str


class DepthSubscription:
    """Subscribes to ``depth`` and ``camera_info``; both stay serialised until they are needed.

    What was heard on ``camera_info`` is kept for good: some drivers publish it once.
    """

    def __init__(self, node: Node, transport: str, image_topic: str) -> None:
        """Name the topics; `open` of each subscribes.

        Args:
            node: the node.
            transport: ``raw`` or ``compressedDepth``.
            image_topic: resolved name of the topic with the colour images.
        """
        self._depths: StampBuffer[bytes] = StampBuffer()
        self._infos: StampBuffer[bytes] = StampBuffer()
        topic = transport_topic(node, "depth", "" if transport == "raw" else transport)
        is_compressed = topic.endswith(f"/{COMPRESSED_DEPTH}")
        self.image_topic = image_topic
        self.depth = CameraSubscription(
            node,
            topic,
            CompressedImage if is_compressed else Image,
            lambda cdr: _keep(self._depths, cdr),
        )
        self.camera_info = CameraSubscription(
            node, "camera_info", CameraInfo, lambda cdr: _keep(self._infos, cdr)
        )

    @property
    def has_camera_info(self) -> bool:
        """Whether a camera_info was heard."""
        return len(self._infos) > 0

    def follow(self, *, wants_depth: bool, wants_camera_info: bool) -> None:
        """Subscribe to what is wanted, and unsubscribe from the rest."""
        if wants_depth:
            self.depth.open()
        elif self.depth.is_open:
            self.depth.close()
            self.reset()
        if wants_camera_info:
            self.camera_info.open()
        else:
            self.camera_info.close()

    def check(self) -> None:
        """Follow the publishers' QoS; to be called now and then."""
        self.depth.check()
        self.camera_info.check()

    def reset(self) -> None:
        """Drop the depth images that were received."""
        self._depths.clear()

    def bind(self, image_cdr: bytes, slop_s: float) -> BoundDepth | None:
        """Look for what belongs to an image, when it arrives.

        Args:
            image_cdr: the serialised image.
            slop_s: largest difference of the stamps, seconds.

        Returns:
            None while depth is not read, and for what is no image.
        """
        if not self.depth.is_open:
            return None
        try:
            stamp_ns = message_stamp_ns(image_cdr)
        except ImageError:
            return None
        slop_ns = int(slop_s * 1e9)
        return BoundDepth(
            self._depths.watch(stamp_ns, slop_ns), self._infos.watch(stamp_ns, slop_ns)
        )

    def read_depth(
        self, bound: BoundDepth, frame: Frame, settings: DepthSettings
    ) -> RegisteredDepth:
        """Decode the depth image of a frame.

        Raises:
            ImageError: there is none, it is damaged, or of another camera.
        """
        came_s, topic = self.depth.last_received_s, self.depth.topic
        is_alive = came_s is not None and time.monotonic() - came_s < ALIVE_S
        cdr = bound.depth.find(WAIT_S if is_alive else 0.0)
        if cdr is None:
            offset_ns = bound.depth.offset_ns
            nearest = (
                "none came at all"
                if offset_ns is None
                else f"the nearest is {abs(offset_ns) / 1e6:.0f} ms "
                f"{'later' if offset_ns > 0 else 'earlier'}"
            )
            raise ImageError(f"no depth on {topic} within sync_slop of the image: {nearest}")
        message = deserialize(cdr, self.depth.message_type)
        check_frame("depth", message.header.frame_id, frame)
        depth_m = message_to_depth(message, settings.max_pixels, settings.metres_per_unit)
        if depth_m.shape != frame.size_hw:
            height, width = depth_m.shape
            raise ImageError(
                f"depth is {width} x {height} pixels, but the image {frame.size_hw[1]} x "
                f"{frame.size_hw[0]}; give depth aligned with colour"
            )
        return RegisteredDepth(depth_m, message_stamp_ns(cdr) - frame.stamp_ns)

    def read_camera(self, bound: BoundDepth, frame: Frame, settings: DepthSettings) -> Intrinsics:
        """Read the camera model of a frame.

        Raises:
            ImageError: there is none, or it is not usable.
        """
        # It changes rarely, and some drivers publish it once: the nearest, else the last.
        cdr = bound.camera_info.find() or self._infos.newest()
        if cdr is None:
            raise ImageError(f"no camera_info came on {self.camera_info.topic}")
        info = deserialize(cdr, CameraInfo)
        check_frame("camera_info", info.header.frame_id, frame)
        return camera_of_image(info, frame.size_hw, self.image_topic, settings.geometry)


class ImageDepth:
    """Depth and camera of one image, each read when it is first asked for.

    Both are None where there is nothing usable; `note` was told why.
    """

    def __init__(
        self,
        subscription: DepthSubscription,
        bound: BoundDepth | None,
        frame: Frame,
        settings: DepthSettings,
        note: Callable[[str, str], None],
    ) -> None:
        """Keep what is needed.

        Args:
            subscription: of both topics.
            bound: what belongs to the image; None: nothing.
            frame: the image.
            settings: how it is understood.
            note: called with ``depth_used`` or ``camera_info_used``, or else ``depth_unusable`` or
                ``camera_info_unusable`` and the reason.
        """
        self._subscription, self._bound, self._frame = subscription, bound, frame
        self._settings, self._note = settings, note

    @cached_property
    def depth(self) -> RegisteredDepth | None:
        """The depth image."""
        return self._read("depth", self._subscription.read_depth)

    @cached_property
    def camera(self) -> Intrinsics | None:
        """The camera's model."""
        return self._read("camera_info", self._subscription.read_camera)

    def depth_m(self) -> FloatArray | None:
        """[H, W] float32 metres, NaN where unknown; None without depth."""
        return None if self.depth is None else self.depth.depth_m

    def _read(self, name: str, read: Callable[..., Any]) -> Any:
        if self._bound is None:
            return None
        try:
            found = read(self._bound, self._frame, self._settings)
        except ImageError as error:
            self._note(f"{name}_unusable", str(error))
            return None
        self._note(f"{name}_used", "")
        return found


def _keep(items: StampBuffer[bytes], cdr: bytes) -> None:
    try:
        items.put(message_stamp_ns(cdr), cdr)
    except ImageError:
        return  # too short to be one


def check_frame(what: str, frame_id: str, frame: Frame) -> None:
    """Refuse a message of another camera; an empty frame may be any.

    Raises:
        ImageError: its frame is not the image's.
    """
    theirs, ours = frame_id.strip("/"), frame.frame_id.strip("/")
    if theirs and ours and theirs != ours:
        raise ImageError(
            f"{what} is of the frame {theirs[:100]!r}, but the image of {ours[:100]!r}; "
            "give what is aligned with colour"
        )


def deserialize(cdr: bytes, message_type: Any) -> Any:
    """Deserialise a message.

    Raises:
        ImageError: it is damaged.
    """
    try:
        return deserialize_message(cdr, message_type)
    except Exception as error:  # whatever the middleware raises for damaged bytes
        raise ImageError(f"damaged {message_type.__name__} message: {error}") from None
