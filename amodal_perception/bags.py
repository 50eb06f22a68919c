"""Read camera frames from ROS 2 bags and write scenes to them, with no ROS installation needed.

A bag is a folder with ``metadata.yaml`` and storage files ("parts"), or one bare ``.mcap`` or
``.db3`` file. Parts are read on their own, one after the other, so a bag that lost some of them
still gives what is left, and a damaged part can be named.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
import zstandard
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from amodal_perception import files
from amodal_perception.errors import BagError, ImageError
from amodal_perception.ros.images import message_to_rgb
from amodal_perception.ros.messages import MessageTypes, msg_to_scene, scene_to_msg
from amodal_perception.structures import Frame, Scene

logger = logging.getLogger(__name__)

SCENE_TOPIC = "/amodal_perception/scene"
SCENE_TYPE = "amodal_perception/msg/AmodalScene"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
PART_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
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
        msgtype: one of `IMAGE_TYPES`.
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


def image_topics(path: str | Path) -> list[ImageTopic]:
    """List a bag's image topics, sorted by name.

    Raises:
        BagError: the bag is missing or damaged.
    """
    return _topics(_part_paths(Path(path))[0])[0]


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
    topics, other_topics = _topics(_part_paths(path)[0])
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
    parts, missing = _part_paths(path)
    if missing:
        logger.warning(
            "%s: %d of %d parts are missing and left out: %s",
            path,
            len(missing),
            len(missing) + len(parts),
            ", ".join(part.name for part in missing),
        )
    chosen = choose_topic(path, topic)
    decoded = 0
    for part in parts:
        with _reading(part) as reader:
            for record_ns, message in _messages(reader, chosen.name):
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


def write_scenes(path: str | Path, scenes: Iterable[Scene]) -> None:
    """Write scenes as AmodalScene messages on `SCENE_TOPIC` into one ``.mcap`` file.

    The file is written whole or not at all, and the same scenes give the same bytes.

    Args:
        path: the file; one that is there is replaced.
        scenes: the scenes; each is recorded at its stamp.
    """
    path = Path(path)
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = MessageTypes.from_typestore(typestore)
    with (
        files.replacing(path) as temporary,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".amodal_bag_") as folder,
    ):
        # The writer makes a folder with metadata; an MCAP file is complete without it.
        writer = Writer(Path(folder) / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            connection = writer.add_connection(SCENE_TOPIC, SCENE_TYPE, typestore=typestore)
            for scene in scenes:
                message = scene_to_msg(scene, types)
                data = typestore.serialize_cdr(message, SCENE_TYPE)
                writer.write(connection, scene.stamp_ns, data)
        (Path(folder) / "bag" / "bag.mcap").replace(temporary)


def read_scenes(path: str | Path) -> Iterator[Scene]:
    """Read the scenes of a bag, of all topics with AmodalScene messages.

    Raises:
        BagError: the bag is missing or damaged, or holds no scenes.
    """
    path = Path(path)
    typestore = get_typestore(Stores.ROS2_JAZZY)
    MessageTypes.from_typestore(typestore)
    found = False
    for part in _part_paths(path)[0]:
        with _reading(part) as reader:
            for topic in [c.topic for c in reader.connections if c.msgtype == SCENE_TYPE]:
                found = True
                for _, message in _messages(reader, topic, typestore):
                    yield msg_to_scene(message)
    if not found:
        raise BagError(f"{path}: no topic with {SCENE_TYPE} messages")


def _topics(parts: list[Path]) -> tuple[list[ImageTopic], list[str]]:
    """Return image topics over all parts, and names of the other topics, both sorted."""
    images: dict[str, ImageTopic] = {}
    others: set[str] = set()
    for part in parts:
        with _reading(part) as reader:
            for connection in reader.connections:
                name, msgtype = connection.topic, _full_type_name(connection.msgtype)
                if msgtype not in IMAGE_TYPES:
                    others.add(name)
                    continue
                known = images.get(name, ImageTopic(name, msgtype, 0, ""))
                images[name] = ImageTopic(
                    name,
                    known.msgtype,
                    known.message_count + connection.msgcount,
                    known.encoding or _first_encoding(reader, name),
                )
    return [images[name] for name in sorted(images)], sorted(others)


def _first_encoding(reader: Reader, topic: str) -> str:
    for _, message in _messages(reader, topic):
        return str(message.encoding if hasattr(message, "encoding") else message.format)
    return ""


def _full_type_name(msgtype: str) -> str:
    """Some recorders write ``sensor_msgs/Image`` for ``sensor_msgs/msg/Image``."""
    package, *_, name = msgtype.split("/")
    return f"{package}/msg/{name}"


def _part_paths(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the storage files of a bag that are there, and those that should be."""
    if not path.exists():
        raise BagError(f"{path}: no such bag")
    if path.is_file():
        if path.name == "metadata.yaml":
            return _part_paths(path.parent)
        if not path.name.endswith(PART_SUFFIXES):
            raise BagError(
                f"{path}: not a bag; expected a folder, or a file {', '.join(PART_SUFFIXES)}"
            )
        return [path], []
    metadata_path = path / "metadata.yaml"
    if metadata_path.exists():
        named = [path / Path(name).name for name in _named_parts(metadata_path)]
        found = [part for part in named if part.is_file()]
        missing = [part for part in named if not part.is_file()]
    else:  # a recording that was interrupted: the metadata is written last
        found = sorted(part for part in path.iterdir() if part.name.endswith(PART_SUFFIXES))
        missing = []
    if not found:
        expected = ", ".join(part.name for part in missing) or "*.mcap or *.db3"
        raise BagError(f"{path}: none of the bag's files is there (expected {expected})")
    return found, missing


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
def _reading(part: Path) -> Iterator[Reader]:
    """Open one storage file; report whatever goes wrong inside as a BagError that names it."""
    try:
        with tempfile.TemporaryDirectory(prefix="amodal_bag_") as folder:
            storage = part
            if part.suffix == ".zstd":
                storage = Path(folder) / part.stem
                with part.open("rb") as packed, storage.open("wb") as unpacked:
                    zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
            with Reader(storage) as reader:
                yield reader
    except (BagError, ImageError):
        raise
    except Exception as error:
        # Damaged bytes surface as any of a dozen exceptions: struct.error, AssertionError,
        # zstandard.ZstdError, sqlite3.DatabaseError, KeyError, UnicodeDecodeError, ...
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise BagError(
            f"{part}: cannot be read; damaged, cut short, or not a ROS 2 bag ({reason})"
        ) from error


def _messages(
    reader: Reader, topic: str, typestore: Typestore | None = None
) -> Iterator[tuple[int, Any]]:
    """Read one topic's messages with the time they were recorded at, nanoseconds."""
    connections = [connection for connection in reader.connections if connection.topic == topic]
    if not connections:  # an empty list would mean all topics
        return
    typestore = typestore or get_typestore(Stores.ROS2_JAZZY)
    unpack = zstandard.ZstdDecompressor().decompress
    for connection, record_ns, data in reader.messages(connections):
        if data.startswith(ZSTD_MAGIC):
            data = unpack(data)
        yield record_ns, typestore.deserialize_cdr(data, _full_type_name(connection.msgtype))
