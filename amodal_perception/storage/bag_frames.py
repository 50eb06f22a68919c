"""Camera frames from ROS 2 bags, decoded or serialised; no ROS is needed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from amodal_perception.conversions.cdr import message_stamp_ns, with_stamp
from amodal_perception.conversions.images import EncodingError, message_to_rgb, stamp_ns_of
from amodal_perception.errors import BagError, ImageError
from amodal_perception.storage.bag_files import (
    choose_topic,
    present_parts,
    read_serialised_messages,
    reading_part,
)
from amodal_perception.storage.recorded_channel import MAX_STAMP_NS, RecordedChannel
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


def read_frames(
    path: str | Path, topic: str | None = None, losses: Counter[str] | None = None
) -> Iterator[Frame]:
    """Read the images of one topic in the order of recording.

    Parts that the metadata names but that are not there are left out with a warning, and so are
    single messages that are no image.

    Args:
        path: a bag's folder, or one of its files.
        topic: the image topic; None chooses, see `choose_topic`.
        losses: counts the messages that were left out, by cause; filled while frames are read.

    Yields:
        Frames with the stamp of the message's header (time of recording where that is zero).

    Raises:
        BagError: no such bag, no such topic, no images, or damaged data.
    """
    path = Path(path)
    parts = present_parts(path)
    chosen = choose_topic(path, topic)
    losses = Counter() if losses is None else losses
    typestore = get_typestore(Stores.ROS2_JAZZY)
    decoded = 0
    for part_path in parts:
        with reading_part(part_path) as part:
            for channel, record_ns, cdr in read_serialised_messages(part, chosen.name):
                try:
                    message = _message_of(cdr, channel, typestore)
                    stamp_ns = _checked_stamp_ns(stamp_ns_of(message), record_ns)
                    frame = Frame(message_to_rgb(message), stamp_ns, message.header.frame_id)
                except ImageError as error:
                    _count_loss(losses, part_path, record_ns, error)
                    continue
                decoded += 1
                yield frame
    if not decoded:
        raise BagError(
            f"{path}: none of the {chosen.message_count} messages on {chosen.name} is an image "
            f"that can be decoded (format {chosen.encoding!r})"
        )


def read_recorded_images(
    path: str | Path, topic: str, losses: Counter[str] | None = None
) -> Iterator[RecordedImage]:
    """Read an image topic's messages as they were on the wire, in the order of recording.

    Messages whose header cannot be read are left out with a warning, and counted in `losses` by
    cause.

    Raises:
        BagError: no such bag, or damaged data.
    """
    losses = Counter() if losses is None else losses
    for part_path in present_parts(Path(path)):
        with reading_part(part_path) as part:
            for _, record_ns, cdr in read_serialised_messages(part, topic):
                try:
                    stamp_ns = message_stamp_ns(cdr)
                    checked_ns = _checked_stamp_ns(stamp_ns, record_ns)
                except ImageError as error:
                    _count_loss(losses, part_path, record_ns, error)
                    continue
                if stamp_ns == 0:
                    cdr = with_stamp(cdr, checked_ns)
                yield RecordedImage(record_ns, checked_ns, cdr)


class _StampError(ImageError):
    """A stamp that no camera gives, or that no header could hold again."""


class _MessageError(ImageError):
    """Bytes that are no message of the topic's type."""


def _message_of(cdr: bytes, channel: RecordedChannel, typestore: Typestore) -> Any:
    try:
        return typestore.deserialize_cdr(cdr, channel.msgtype)
    except Exception as error:  # struct.error, UnicodeDecodeError, IndexError, ...
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise _MessageError(f"no {channel.msgtype} in {len(cdr)} bytes ({reason})") from error


def _checked_stamp_ns(stamp_ns: int, record_ns: int) -> int:
    """Return the stamp, or the time of recording where it is zero."""
    stamp_ns = stamp_ns or record_ns
    if not 0 <= stamp_ns < MAX_STAMP_NS:
        raise _StampError(f"its stamp, {stamp_ns} ns, is no time")
    return stamp_ns


def _count_loss(losses: Counter[str], part: Path, record_ns: int, error: ImageError) -> None:
    """Count a message by the kind of its error, as `summary.json` names it, and warn."""
    if isinstance(error, _StampError):
        cause = "stamp"
    elif isinstance(error, _MessageError):
        cause = "message"
    else:
        cause = "encoding" if isinstance(error, EncodingError) else "image"
    losses[cause] += 1
    logger.warning("%s: image recorded at %d ns left out: %s", part, record_ns, error)
