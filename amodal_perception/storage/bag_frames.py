"""Camera frames from ROS 2 bags, decoded or serialised; no ROS is needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from amodal_perception.conversions.cdr import message_stamp_ns, with_stamp
from amodal_perception.conversions.images import message_to_rgb
from amodal_perception.errors import BagError, ImageError
from amodal_perception.storage.bag_files import (
    choose_topic,
    present_parts,
    read_messages,
    read_serialised_messages,
    reading_part,
)
from amodal_perception.structures import Frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedImage:
    """One image message as it was on the wire.

    Attributes:
        record_ns: when it was recorded, nanoseconds.
        stamp_ns: the header's stamp, nanoseconds; `record_ns` where that is zero.
        cdr: the serialised message; its header carries `stamp_ns`.
    """

    record_ns: int
    stamp_ns: int
    cdr: bytes


def read_frames(path: str | Path, topic: str | None = None) -> Iterator[Frame]:
    """Read the images of one topic in the order of recording.

    Parts that the metadata names but that are not there are left out with a warning, and so are
    single images that cannot be decoded.

    Args:
        path: a bag's folder, or one of its files.
        topic: the image topic; None chooses, see `choose_topic`.

    Yields:
        Frames with the stamp of the message's header (time of recording where that is zero).

    Raises:
        BagError: no such bag, no such topic, no images, or damaged data.
    """
    path = Path(path)
    parts = present_parts(path)
    chosen = choose_topic(path, topic)
    decoded = 0
    for part in parts:
        with reading_part(part) as reader:
            for record_ns, message in read_messages(reader, chosen.name):
                stamp = message.header.stamp
                stamp_ns = (stamp.sec * 10**9 + stamp.nanosec) or record_ns
                try:
                    image = message_to_rgb(message)
                except ImageError as error:
                    logger.warning("%s: image at %d ns left out: %s", part, stamp_ns, error)
                    continue
                decoded += 1
                yield Frame(image, stamp_ns, message.header.frame_id)
    if not decoded:
        raise BagError(
            f"{path}: none of the {chosen.message_count} messages on {chosen.name} is an image "
            f"that can be decoded (format {chosen.encoding!r})"
        )


def read_recorded_images(path: str | Path, topic: str) -> Iterator[RecordedImage]:
    """Read an image topic's messages as they were on the wire, in the order of recording.

    Raises:
        BagError: no such bag, or damaged data.
    """
    for part in present_parts(Path(path)):
        with reading_part(part) as reader:
            for _, record_ns, cdr in read_serialised_messages(reader, topic):
                stamp_ns = message_stamp_ns(cdr)
                if stamp_ns == 0:
                    stamp_ns = record_ns
                    cdr = with_stamp(cdr, stamp_ns)
                yield RecordedImage(record_ns, stamp_ns, cdr)
