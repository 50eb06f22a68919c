"""Depth beside a bag's images: which topic fits them, and the depth image of a stamp."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_perception.conversions.depth_images import message_to_depth
from amodal_perception.conversions.images import message_to_rgb, stamp_ns_of
from amodal_perception.errors import ImageError
from amodal_perception.storage.bag_files import (
    choose_topic,
    image_topics,
    present_parts,
    read_messages,
    reading_part,
)
from amodal_perception.structures import FloatArray, Frame

logger = logging.getLogger(__name__)

NO_DEPTH = "none"
SLOP_NS = 20_000_000
# Stamps that go back by more than this begin anew.
JUMP_NS = 1_000_000_000


@dataclass(frozen=True)
class DepthOptions:
    """Where the depth of a bag's images comes from.

    Attributes:
        topic: of depth images that are aligned with the images; empty: one that fits them, if
            there is any; `NO_DEPTH`: none.
        metres_per_unit: see `message_to_depth`.
    """

    topic: str = ""
    metres_per_unit: float = 0.0


def find_depth_topic(bag: Path, image_topic: str, options: DepthOptions) -> str:
    """Name the depth topic of a camera.

    Args:
        bag: rosbag2 folder or file.
        image_topic: of its images.
        options: what the user wants.

    Returns:
        The topic; of those that fit by frame and size the first by name; "" where there is none.

    Raises:
        BagError: the topic that is wanted is not there, or the bag is damaged.
    """
    if options.topic == NO_DEPTH:
        return ""
    if options.topic:
        return choose_topic(bag, options.topic).name
    candidates = [t.name for t in image_topics(bag) if t.rank == 2 and t.message_count]
    if not candidates:
        return ""
    image = _first_frame(bag, image_topic)
    for name in candidates:
        message = next(_messages(bag, name), None)
        if image is None or message is None:
            continue
        try:
            depth_m = message_to_depth(message)
        except ImageError:
            continue  # no depth after all
        frame_id, size_hw = image
        if depth_m.shape == size_hw and message.header.frame_id == frame_id:
            return name
    return ""


ANY_DEPTH = DepthOptions()


class DepthOfFrames:
    """Gives the depth of one frame after another, in the order of recording."""

    def __init__(self, bag: Path, topic: str, options: DepthOptions) -> None:
        """Open the topic.

        Args:
            bag: rosbag2 folder or file.
            topic: of depth images.
            options: their unit.
        """
        self._messages = _messages(bag, topic)
        self._options, self._topic = options, topic
        self._read: deque[tuple[tuple[int, int], Any]] = deque()
        # Where time jumps back, stamps alone do not say which depth is of which image.
        self._frames, self._depths = _Runs(), _Runs()

    def of(self, frame: Frame) -> FloatArray | None:
        """Return the depth nearest to a frame, within 20 ms.

        Returns:
            [H, W] float32, metres, NaN where unknown; None without depth that fits the frame.

        Raises:
            BagError: the bag is damaged.
        """
        message = self._nearest(frame.stamp_ns)
        if message is None:
            return None
        try:
            depth_m = message_to_depth(message, metres_per_unit=self._options.metres_per_unit)
            if depth_m.shape != frame.size_hw:
                raise ImageError("depth has another size than the image")
            if message.header.frame_id != frame.frame_id and frame.frame_id:
                raise ImageError(f"depth is of the frame {message.header.frame_id[:100]!r}")
        except ImageError as error:
            logger.warning("%s at %d ns left out: %s", self._topic, frame.stamp_ns, error)
            return None
        return depth_m

    def _nearest(self, stamp_ns: int) -> Any:
        run = self._frames.run_of(stamp_ns)
        first, last = (run, stamp_ns - SLOP_NS), (run, stamp_ns + SLOP_NS)
        while self._read and self._read[0][0] < first:
            self._read.popleft()
        while not self._read or self._read[-1][0] <= last:
            message = next(self._messages, None)
            if message is None:
                break
            try:
                read_ns = stamp_ns_of(message)
            except ImageError:
                continue
            key = self._depths.run_of(read_ns), read_ns
            if key >= first:
                self._read.append((key, message))
        near = [
            (abs(key[1] - stamp_ns), i) for i, (key, _) in enumerate(self._read) if key <= last
        ]
        return self._read[min(near)[1]][1] if near else None


class _Runs:
    """Numbers the stretches of a topic in which time runs forward."""

    def __init__(self) -> None:
        self._run, self._stamp_ns = 0, -JUMP_NS

    def run_of(self, stamp_ns: int) -> int:
        """Return the number of the stretch of the next stamp."""
        self._run += stamp_ns < self._stamp_ns - JUMP_NS
        self._stamp_ns = stamp_ns
        return self._run


def _messages(bag: Path, topic: str) -> Iterator[Any]:
    for part in present_parts(bag):
        with reading_part(part) as reader:
            for _, message in read_messages(reader, topic):
                yield message


def _first_frame(bag: Path, topic: str) -> tuple[str, tuple[int, int]] | None:
    """Return frame_id and size of the first image that can be decoded."""
    for message in _messages(bag, topic):
        try:
            rgb = message_to_rgb(message)
        except ImageError:
            continue
        return str(message.header.frame_id), (rgb.shape[0], rgb.shape[1])
    return None
