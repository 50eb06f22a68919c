"""Bags as files: which there are, their parts, their image topics; no ROS installation needed.

A bag is a folder with ``metadata.yaml`` and storage files ("parts"), or one bare ``.mcap`` or
``.db3`` file. Parts are read on their own, one after the other, so a bag that lost some of them
still gives what is left, and a damaged part can be named.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
import zstandard
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from amodal_perception.errors import BagError, ImageError
from amodal_perception.storage.mcap_part import McapPart, ros1_error
from amodal_perception.storage.recorded_channel import RecordedChannel
from amodal_perception.storage.sqlite_part import SqlitePart, unmerged_logs

logger = logging.getLogger(__name__)
Part = McapPart | SqlitePart
COMPRESSED_SUFFIX = "/compressed"
ROS1_SUFFIX = ".bag"
PART_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
# The ends of a part's name: its number, counted from 0, and the kind of storage.
PART_NUMBER = re.compile(r"_\d+$")
PART_SUFFIX = re.compile(r"\.(mcap|db3)(\.zstd)?$")
# Starts every zstd frame. Serialised messages start with 0x00, so the two cannot be confused and
# compressed messages are recognised without the folder's metadata.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Encodings of depth and of other measurements that are no picture.
NOT_A_PICTURE = ("16uc", "16sc", "32fc", "32sc", "64fc", "mono16", "compresseddepth")


@dataclass(frozen=True)
class ImageTopic:
    """A topic with images.

    Attributes:
        name: the topic.
        msgtype: one of `recorded_channel.IMAGE_TYPES`.
        message_count: messages in the parts that are there.
        encoding: ``encoding`` or ``format`` of the first message; empty without a message.
    """

    name: str
    msgtype: str
    message_count: int
    encoding: str

    @property
    def rank(self) -> int:
        """0 for colour, 1 for grey, 2 for depth and the like."""
        encoding = self.encoding.lower()
        if any(word in encoding for word in NOT_A_PICTURE):
            return 2
        return 1 if "mono" in encoding or encoding.startswith("8uc1") else 0


def find_bags(path: str | Path) -> list[Path]:
    """List the bags at or below a path, sorted.

    A folder with ``metadata.yaml`` is one bag. Without it, storage files whose names differ by
    their number alone (``drive_0.mcap``, ``drive_1.mcap``) are the parts of one bag, a recording
    that was interrupted; other storage files are bags of their own.

    Raises:
        BagError: no such path, or no bag there.
    """
    path = Path(path)
    if path.name == "metadata.yaml":
        path = path.parent
    if path.is_file() or not path.exists():
        part_paths(path)  # raises where it is no bag
        return [path]
    found = _bags_below(path)
    ros1 = sorted(path.rglob(f"*{ROS1_SUFFIX}"))
    if not found and ros1:
        raise ros1_error(ros1[0])
    if not found:
        raise BagError(f"{path}: no bags here (folders with metadata.yaml, *.mcap or *.db3)")
    return found


def bag_name(path: str | Path) -> str:
    """Name a bag after its folder, or after its file without the ending."""
    return PART_SUFFIX.sub("", Path(path).resolve().name)


def storage_files(path: str | Path) -> list[Path]:
    """List the files of a bag that are there, in the order of recording, logs after their part.

    Raises:
        BagError: no such bag.
    """
    parts = part_paths(Path(path))[0]
    return [file for part in parts for file in (part, *unmerged_logs(part))]


def image_topics(path: str | Path) -> list[ImageTopic]:
    """List a bag's image topics, sorted by name.

    Raises:
        BagError: the bag is missing or damaged.
    """
    return _topics(part_paths(Path(path))[0])[0]


def choose_topic(path: str | Path, wanted: str | None = None) -> ImageTopic:
    """Find the image topic the user asked for, or the one they most likely mean.

    Args:
        path: a bag's folder, or one of its files.
        wanted: the topic's name; None takes the first by name with colour images, else with grey
            ones, and says so where there was a choice between equals.

    Raises:
        BagError: no such bag, no such topic, no images.
    """
    path = Path(path)
    topics, other_topics = _topics(part_paths(path)[0])
    names = ", ".join(topic.name for topic in topics)
    if not topics:
        others = ", ".join(other_topics) or "none at all"
        raise BagError(f"{path}: no image topic; topics there are: {others}")
    if wanted is not None:
        for topic in topics:
            if topic.name == wanted:
                return topic
        raise BagError(f"{path}: no image topic {wanted!r}; image topics there are: {names}")
    with_messages = [topic for topic in topics if topic.message_count]
    if not with_messages:
        raise BagError(f"{path}: no images; image topics without a message: {names}")
    chosen = min(with_messages, key=lambda topic: topic.rank)
    if sum(topic.rank == chosen.rank for topic in with_messages) > 1:
        logger.warning("%s: reading %s; image topics there are: %s", path, chosen.name, names)
    return chosen


def camera_topics(path: str | Path, wanted: Sequence[str] = ()) -> list[ImageTopic]:
    """List a bag's cameras: topics with colour or grey images, or those that the user asks for.

    Depth images are left out, and so are compressed images where the same camera's raw ones were
    recorded too.

    Args:
        path: a bag's folder, or one of its files.
        wanted: names of topics; none takes all cameras.

    Raises:
        BagError: no such bag, no such topic, no images.
    """
    path = Path(path)
    if wanted:
        return [choose_topic(path, name) for name in dict.fromkeys(wanted)]
    topics = [topic for topic in image_topics(path) if topic.message_count]
    names = {topic.name for topic in topics}
    cameras = [
        topic
        for topic in topics
        if topic.rank < 2
        and topic.name.removesuffix(COMPRESSED_SUFFIX) not in names - {topic.name}
    ]
    if not cameras:
        return [choose_topic(path)]
    left_out = sorted(names - {camera.name for camera in cameras})
    if left_out:
        logger.info("%s: not read: %s", path, ", ".join(left_out))
    return cameras


def _topics(parts: list[Path]) -> tuple[list[ImageTopic], list[str]]:
    """Return image topics over all parts, and names of the other topics, both sorted."""
    images: dict[str, ImageTopic] = {}
    others: set[str] = set()
    for path in parts:
        with reading_part(path) as part:
            for channel in part.channels:
                name = channel.topic
                if not channel.is_image:
                    others.add(f"{name} ({channel.msgtype or channel.message_encoding})")
                    continue
                known = images.get(name, ImageTopic(name, channel.msgtype, 0, ""))
                images[name] = ImageTopic(
                    name,
                    known.msgtype,
                    known.message_count + channel.message_count,
                    known.encoding or _first_encoding(part, name),
                )
    return [images[name] for name in sorted(images)], sorted(others)


def _first_encoding(part: Part, topic: str) -> str:
    """Read the encoding of the first message that can be read."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for channel, _, cdr in read_serialised_messages(part, topic):
        try:
            message: Any = typestore.deserialize_cdr(cdr, channel.msgtype)
        except Exception:  # reported where the frames are read
            continue
        return str(message.encoding if hasattr(message, "encoding") else message.format)
    return ""


def _bags_below(folder: Path) -> list[Path]:
    if (folder / "metadata.yaml").exists():
        return [folder]
    children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    parts = _without_packed_twins([child for child in children if _is_part(child)])
    names = {PART_NUMBER.sub("", bag_name(part)) for part in parts}
    bags = [folder] if len(parts) > 1 and len(names) == 1 else parts
    for ros1 in (child for child in children if child.suffix == ROS1_SUFFIX and child.is_file()):
        logger.warning("left out: %s", ros1_error(ros1))
    return bags + [bag for child in children if child.is_dir() for bag in _bags_below(child)]


def _is_part(path: Path) -> bool:
    """Tell whether a path is a storage file of a bag, by its name."""
    return path.name.endswith(PART_SUFFIXES) and path.is_file()


def part_paths(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the storage files of a bag that are there, in order, and those that should be.

    A part that was packed or unpacked since is found under its other name. Where parts are missing
    and others are there that the metadata does not name, those were renamed. Parts whose number
    follows those that are named belong to a recording that was interrupted.

    Raises:
        BagError: no such bag.
    """
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.is_file():
        if path.name == "metadata.yaml":
            return part_paths(path.parent)
        if path.suffix == ROS1_SUFFIX:
            raise ros1_error(path)
        if not path.name.endswith(PART_SUFFIXES):
            raise BagError(
                f"{path}: not a bag; expected a folder, or a file {', '.join(PART_SUFFIXES)}"
            )
        return [path], []
    metadata_path = path / "metadata.yaml"
    found = _without_packed_twins([child for child in path.iterdir() if _is_part(child)])
    found.sort(key=_recording_order)
    missing: list[Path] = []
    if metadata_path.exists():
        names = _named_parts(metadata_path)
        found, missing = _match_names([path / Path(name).name for name in names], found)
    if not found:
        expected = ", ".join(part.name for part in missing) or "*.mcap or *.db3"
        raise BagError(f"{path}: none of the bag's files is there (expected {expected})")
    return found, missing


def _match_names(named: list[Path], present: list[Path]) -> tuple[list[Path], list[Path]]:
    """Match the parts in the metadata with those that are there; return them, and the missing."""
    twins = {part: _twin_there(part) for part in named}
    found = [twin for twin in twins.values() if twin]
    missing = [part for part, twin in twins.items() if not twin]
    taken = {_unpacked_name(part) for part in found}
    unnamed = [part for part in present if _unpacked_name(part) not in taken]
    if not missing:
        families = {_family(part) for part in found}
        unnamed = [part for part in unnamed if _family(part) in families]
    if not unnamed:
        return found, missing
    return sorted(found + unnamed, key=_recording_order), missing[len(unnamed) :]


def _without_packed_twins(parts: list[Path]) -> list[Path]:
    """Leave out packed files that lie beside their unpacked selves."""
    names = {part.name for part in parts}
    return [part for part in parts if part.suffix != ".zstd" or part.stem not in names]


def _unpacked_name(part: Path) -> str:
    return part.name.removesuffix(".zstd")


def _family(part: Path) -> str:
    """Name what the parts of one recording share."""
    return PART_NUMBER.sub("", bag_name(part))


def _twin_there(part: Path) -> Path | None:
    """Return the part, or the same one packed or unpacked, whichever is there."""
    unpacked = part.with_name(_unpacked_name(part))
    candidates = (part, unpacked, unpacked.with_name(f"{unpacked.name}.zstd"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _recording_order(part: Path) -> tuple[str, int, str]:
    """Sort by number: 10 comes after 9."""
    number = PART_NUMBER.search(bag_name(part))
    return _family(part), int(number.group()[1:]) if number else -1, part.name


def present_parts(path: Path) -> list[Path]:
    """Return the storage files that are there; warn of what the metadata says otherwise."""
    parts, missing = part_paths(path)
    if missing:
        logger.warning(
            "%s: %d of %d parts are missing and left out: %s",
            path,
            len(missing),
            len(missing) + len(parts),
            ", ".join(part.name for part in missing),
        )
    metadata_path = path / "metadata.yaml"
    if metadata_path.is_file():
        named = {Path(name).name for name in _named_parts(metadata_path)}
        others = [part.name for part in parts if part.name not in named]
        if others:
            logger.warning(
                "%s: read although metadata.yaml does not name it: %s", path, ", ".join(others)
            )
    return parts


def _named_parts(metadata_path: Path) -> list[str]:
    """Return the file names in a bag's metadata."""
    try:
        metadata = yaml.safe_load(metadata_path.read_text())
        names = metadata["rosbag2_bagfile_information"]["relative_file_paths"]
        return [str(name) for name in names]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BagError(
            f"{metadata_path}: not a rosbag2 metadata file; remove it to read the parts without it"
        ) from error


@contextmanager
def reading_part(path: Path) -> Iterator[Part]:
    """Open one storage file; report whatever goes wrong inside as a BagError that names it."""
    try:
        with tempfile.TemporaryDirectory(prefix="amodal_bag_") as scratch:
            storage = path
            if path.suffix == ".zstd":
                storage = Path(scratch) / path.stem
                with path.open("rb") as packed, storage.open("wb") as unpacked:
                    zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
            part: Part
            if storage.suffix == ".mcap":
                part = McapPart(storage)
            else:
                part = SqlitePart(storage, Path(scratch))
            with closing(part):
                yield part
    except (BagError, ImageError):
        raise
    except Exception as error:
        # Damaged bytes surface as any of a dozen exceptions: struct.error, ValueError,
        # zstandard.ZstdError, sqlite3.DatabaseError, KeyError, UnicodeDecodeError, ...
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise BagError(f"{path}: cannot be read; damaged or cut short ({reason})") from error


def read_messages(
    part: Part, topic: str, typestore: Typestore | None = None
) -> Iterator[tuple[int, Any]]:
    """Read one topic's messages with the time they were recorded at, nanoseconds."""
    typestore = typestore or get_typestore(Stores.ROS2_JAZZY)
    for channel, record_ns, cdr in read_serialised_messages(part, topic):
        yield record_ns, typestore.deserialize_cdr(cdr, channel.msgtype)


def read_serialised_messages(
    part: Part, topic: str
) -> Iterator[tuple[RecordedChannel, int, bytes]]:
    """Read one topic's messages as they were on the wire: (channel, time, bytes).

    Of a topic with images the channels of other types, which another publisher may have, are left
    out.
    """
    channels = [channel for channel in part.channels if channel.topic == topic]
    channels = [channel for channel in channels if channel.is_image] or channels
    unpack = zstandard.ZstdDecompressor().decompress
    for channel, record_ns, data in part.messages(channels):
        yield channel, record_ns, unpack(data) if data.startswith(ZSTD_MAGIC) else data
