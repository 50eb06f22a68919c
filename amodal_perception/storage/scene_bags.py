"""Bags of scenes, written and read with no ROS installation needed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from amodal_perception import files
from amodal_perception.conversions.scenes import MessageTypes, msg_to_scene, scene_to_msg
from amodal_perception.errors import BagError
from amodal_perception.storage.bag_files import (
    COMPRESSED_SUFFIX,
    part_paths,
    read_messages,
    reading_part,
)
from amodal_perception.storage.image_files import encode_image
from amodal_perception.structures import Scene, UInt8Array

NAMESPACE = "/amodal_perception"
SCENE_TYPE = "amodal_perception/msg/AmodalScene"
OVERLAY_TYPE = "sensor_msgs/msg/CompressedImage"


class SceneWriter:
    """Writes scenes, and pictures of them, into a bag; see `writing_scenes`."""

    def __init__(self, writer: Writer, namespace: str) -> None:
        self._writer = writer
        self._typestore = get_typestore(Stores.ROS2_JAZZY)
        self._types = MessageTypes.from_typestore(self._typestore)
        self._namespace = namespace
        self._overlays: Any = None
        self._scenes = writer.add_connection(
            f"{namespace}/scene", SCENE_TYPE, typestore=self._typestore
        )

    def write(self, scene: Scene, overlay: UInt8Array | None = None) -> None:
        """Record a scene, and a picture of it (``[H, W, 3]`` RGB) if given, at its stamp."""
        message = scene_to_msg(scene, self._types)
        data = self._typestore.serialize_cdr(message, SCENE_TYPE)
        self._writer.write(self._scenes, scene.stamp_ns, data)
        if overlay is not None:
            self._write_overlay(message.header, scene.stamp_ns, overlay)

    def _write_overlay(self, header: Any, stamp_ns: int, overlay: UInt8Array) -> None:
        if self._overlays is None:
            topic = f"{self._namespace}/overlay{COMPRESSED_SUFFIX}"
            self._overlays = self._writer.add_connection(
                topic, OVERLAY_TYPE, typestore=self._typestore
            )
        message = self._typestore.types[OVERLAY_TYPE](
            header=header,
            format="rgb8; jpeg compressed bgr8",
            data=np.frombuffer(encode_image(overlay, ".jpg"), np.uint8),
        )
        data = self._typestore.serialize_cdr(message, OVERLAY_TYPE)
        self._writer.write(self._overlays, stamp_ns, data)


@contextmanager
def writing_scenes(path: str | Path, namespace: str = NAMESPACE) -> Iterator[SceneWriter]:
    """Write scenes as AmodalScene messages on ``<namespace>/scene`` into one ``.mcap`` file.

    Pictures go to ``<namespace>/overlay/compressed``, so that any viewer of bags shows them. The
    file holds the messages' definitions and needs no ``metadata.yaml``. It appears whole or not at
    all, and the same content gives the same bytes.

    Args:
        path: the file; one that is there is replaced.
        namespace: where the topics lie.
    """
    path = Path(path)
    with (
        files.atomic_write(path) as temporary,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".amodal_bag_") as folder,
    ):
        # The writer makes a folder with metadata; an MCAP file is complete without it. The name
        # is kept, because the file repeats it inside.
        bag = Path(folder) / path.stem
        writer = Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            yield SceneWriter(writer, namespace)
        (bag / f"{path.stem}.mcap").replace(temporary)


def read_scenes(path: str | Path) -> Iterator[Scene]:
    """Read the scenes of a bag, of all topics with AmodalScene messages.

    Raises:
        BagError: the bag is missing or damaged, or holds no scenes.
    """
    path = Path(path)
    typestore = get_typestore(Stores.ROS2_JAZZY)
    MessageTypes.from_typestore(typestore)
    found = False
    for part in part_paths(path)[0]:
        with reading_part(part) as reader:
            topics = [c.topic for c in reader.channels if c.msgtype == SCENE_TYPE]
            for topic in dict.fromkeys(topics):
                found = True
                for _, message in read_messages(reader, topic, typestore):
                    yield msg_to_scene(message)
    if not found:
        raise BagError(f"{path}: no topic with {SCENE_TYPE} messages")


def scene_decoder() -> Callable[[bytes], Scene]:
    """Return a function that makes a Scene of a serialised AmodalScene message."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    MessageTypes.from_typestore(typestore)
    return lambda cdr: msg_to_scene(typestore.deserialize_cdr(cdr, SCENE_TYPE))
