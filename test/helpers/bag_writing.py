"""Small bags of images in every kind of storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types


def header(stamp_ns: int):
    stamp = T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return T["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def image_message(image: np.ndarray, stamp_ns: int, encoding: str = "rgb8"):
    return T["sensor_msgs/msg/Image"](
        header=header(stamp_ns),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=image.strides[0],
        data=np.frombuffer(image.tobytes(), np.uint8),
    )


def compressed_message(data: np.ndarray, stamp_ns: int, fmt: str = "png"):
    return T["sensor_msgs/msg/CompressedImage"](header=header(stamp_ns), format=fmt, data=data)


def write_bag(
    folder: Path,
    topics: dict[str, list],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    period_ns: int | None = None,
) -> Path:
    """Write messages, each recorded 1 ms after its stamp, or a period after the one before."""
    writer = Writer(folder, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        for topic, messages in topics.items():
            msgtype = messages[0].__msgtype__
            connection = writer.add_connection(topic, msgtype, typestore=STORE)
            for number, message in enumerate(messages):
                stamp = message.header.stamp
                record_ns = stamp.sec * 10**9 + stamp.nanosec + 10**6
                if period_ns is not None:
                    record_ns = number * period_ns
                writer.write(connection, record_ns, STORE.serialize_cdr(message, msgtype))
    return folder
