"""ROS messages of depth -> metres, without ROS: raw (REP 118) and compressedDepth.

As in `images`, everything is checked before memory is taken.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.conversions.images import (
    MAX_PIXELS,
    EncodingError,
    message_bytes,
    one_channel,
    short_name,
)
from amodal_perception.conversions.pictures import check_size, png_size_wh
from amodal_perception.conversions.rvl import decode_rvl
from amodal_perception.errors import ImageError
from amodal_perception.structures import FloatArray, UInt8Array

METRES_PER_UNIT = {"16UC1": 0.001, "mono16": 0.001, "32FC1": 1.0}  # REP 118
# Before the picture: the kind of coding (an enumeration, without use) and two parameters.
COMPRESSED_HEADER = "<iff"
COMPRESSED_HEADER_BYTES = struct.calcsize(COMPRESSED_HEADER)
RVL_SIZE = "<II"
RVL_SIZE_BYTES = struct.calcsize(RVL_SIZE)


def message_to_depth(
    message: Any, max_pixels: int = MAX_PIXELS, metres_per_unit: float = 0.0
) -> FloatArray:
    """Decode a message of distances.

    Args:
        message: sensor_msgs/Image: ``16UC1`` or ``mono16`` with 0 for unknown, or ``32FC1`` with
            NaN for unknown; or sensor_msgs/CompressedImage of the transport compressedDepth, PNG
            or RVL.
        max_pixels: larger images are refused.
        metres_per_unit: length of the samples' unit; 0: as REP 118 says, millimetres where they
            are whole numbers, metres where they are not.

    Returns:
        [H, W] float32, metres along the optical axis; NaN where unknown.

    Raises:
        ImageError: another encoding, sizes that contradict each other, damaged data.
    """
    if hasattr(message, "encoding"):
        name = str(message.encoding)
        _check_encoding(name)
        is_float = name == "32FC1"
        samples = one_channel(message, np.float32 if is_float else np.uint16, max_pixels)
        depth = samples.astype(np.float32)
    else:
        name, depth = _decompress(message, max_pixels)
    unit_m = metres_per_unit or METRES_PER_UNIT[name]
    if unit_m != 1.0:
        depth *= np.float32(unit_m)
    # Not a number, not positive, or beyond all sensors: unknown. NaN fails every comparison.
    depth[~((depth > 0) & (depth < np.inf))] = np.nan
    return depth


def _check_encoding(name: str) -> None:
    if name not in METRES_PER_UNIT:
        raise EncodingError(
            f"{short_name(name)} holds no depth; known are {', '.join(METRES_PER_UNIT)}"
        )


def _decompress(message: Any, max_pixels: int) -> tuple[str, FloatArray]:
    """Return the encoding that was compressed, and its samples."""
    name, _, transport = (part.strip() for part in str(message.format).partition(";"))
    _check_encoding(name)
    what = f"compressed depth, format {short_name(message.format)}"
    kind, _, coder = transport.partition(" ")
    if kind not in ("", "compressedDepth") or coder not in ("", "png", "rvl"):
        raise EncodingError(
            f"{what}: known are 'compressedDepth', 'compressedDepth png' and 'compressedDepth rvl'"
        )
    data = message_bytes(message)
    if data.size <= COMPRESSED_HEADER_BYTES:
        raise ImageError(f"{what}: {data.size} bytes are too few")
    _, a, b = struct.unpack_from(COMPRESSED_HEADER, data.data)
    read = _from_rvl if coder == "rvl" else _from_png
    samples = read(data[COMPRESSED_HEADER_BYTES:], max_pixels, what)
    depth = samples.astype(np.float32)
    if name == "32FC1":  # inverse depth: far away, steps are longer
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            depth = np.float32(a) / (depth - np.float32(b))
        depth[samples == 0] = np.nan
    return name, depth


def _from_png(data: UInt8Array, max_pixels: int, what: str) -> NDArray[np.uint16]:
    size_wh = png_size_wh(data, what)
    if size_wh is None:
        raise ImageError(f"{what}: no PNG image, or cut short")
    check_size(*size_wh, max_pixels, what)
    try:
        samples = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        samples = None
    if samples is None:
        raise ImageError(f"{what}: damaged")
    if samples.dtype != np.uint16 or samples.ndim != 2:
        raise ImageError(f"{what}: the PNG image has not one channel of 16 bits")
    return samples  # type: ignore[return-value]


def _from_rvl(data: UInt8Array, max_pixels: int, what: str) -> NDArray[np.uint16]:
    if data.size < RVL_SIZE_BYTES:
        raise ImageError(f"{what}: {data.size} bytes are too few")
    width, height = struct.unpack_from(RVL_SIZE, data.data)
    check_size(width, height, max_pixels, what)
    return decode_rvl(data[RVL_SIZE_BYTES:], width * height).reshape(height, width)
