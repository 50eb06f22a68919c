"""ROS image messages to RGB arrays and back (as cv_bridge does), without ROS.

Works on any object with the fields of sensor_msgs/Image or sensor_msgs/CompressedImage: those of
rclpy (``data`` is an ``array.array``) and those of rosbags (``data`` is an ndarray).

Everything is checked before memory is taken: a message from the network may hold anything.
"""

from __future__ import annotations

import array
import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.conversions.pictures import PictureRules, check_size, decode_picture
from amodal_perception.errors import ImageError, one_line
from amodal_perception.structures import Frame, UInt8Array

MAX_PIXELS = 32_000_000
# Distances, not colours: drawing them as a picture would only hide a wrong topic name.
DEPTH_ENCODINGS = ("16UC1", "32FC1", "64FC1")
MAX_ENCODING_NAME = 32


@dataclass(frozen=True)
class _Encoding:
    """How one pixel lies in memory, and how OpenCV turns it into RGB.

    Attributes:
        channels: samples per pixel in one row.
        to_rgb: OpenCV colour conversion; None where the samples are RGB already.
        dtype: type of one sample; 16-bit samples keep their upper 8 bits.
        chroma_rows: rows of colour that follow the rows of brightness, per image row.
    """

    channels: int
    to_rgb: int | None
    dtype: type = np.uint8
    chroma_rows: float = 0


# ROS names a Bayer pattern by its first two rows; OpenCV by the second and third column of the
# second row, hence RGGB <-> BG.
_ENCODINGS = {
    "rgb8": _Encoding(3, None),
    "bgr8": _Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC3": _Encoding(3, cv2.COLOR_BGR2RGB),  # as cv_bridge understands it
    "8UC4": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "rgba8": _Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding(3, None, np.uint16),
    "bgr16": _Encoding(3, cv2.COLOR_BGR2RGB, np.uint16),
    "rgba16": _Encoding(4, cv2.COLOR_RGBA2RGB, np.uint16),
    "bgra16": _Encoding(4, cv2.COLOR_BGRA2RGB, np.uint16),
    "mono16": _Encoding(1, cv2.COLOR_GRAY2RGB, np.uint16),
    "bayer_rggb8": _Encoding(1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Encoding(1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Encoding(1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Encoding(1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _Encoding(1, cv2.COLOR_BayerBG2RGB, np.uint16),
    "bayer_bggr16": _Encoding(1, cv2.COLOR_BayerRG2RGB, np.uint16),
    "bayer_gbrg16": _Encoding(1, cv2.COLOR_BayerGR2RGB, np.uint16),
    "bayer_grbg16": _Encoding(1, cv2.COLOR_BayerGB2RGB, np.uint16),
    "uyvy": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": _Encoding(2, cv2.COLOR_YUV2RGB_UYVY),
    "yuyv": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2),
    "yuv422_yuy2": _Encoding(2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": _Encoding(1, cv2.COLOR_YUV2RGB_NV12, chroma_rows=0.5),
    "nv21": _Encoding(1, cv2.COLOR_YUV2RGB_NV21, chroma_rows=0.5),
}


class EncodingError(ImageError):
    """An encoding that cannot be decoded: every image of this camera will fail alike."""


def message_to_frame(message: Any, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decode an image message and keep its header; see `message_to_rgb`."""
    return Frame(
        image=message_to_rgb(message, max_pixels),
        stamp_ns=stamp_ns_of(message),
        frame_id=message.header.frame_id,
    )


def stamp_ns_of(message: Any) -> int:
    """Read the stamp of a message with a header, nanoseconds.

    Raises:
        ImageError: a stamp that no header could hold again.
    """
    stamp = message.header.stamp
    if not 0 <= stamp.nanosec < 1_000_000_000:
        raise ImageError(f"stamp with {stamp.nanosec} nanoseconds")
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def message_to_rgb(message: Any, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Decode a sensor_msgs Image or CompressedImage.

    Args:
        message: the message; it must not change while the result is in use.
        max_pixels: larger images are refused.

    Returns:
        [H, W, 3] uint8 RGB, C-contiguous. Of an ``rgb8`` image without padding it is a view of
        the message's own bytes.

    Raises:
        ImageError: encoding that holds no colour, sizes that contradict each other, damaged data.
    """
    if hasattr(message, "encoding"):
        return _raw_to_rgb(message, max_pixels)
    return _compressed_to_rgb(message, max_pixels)


def rgb_to_message(rgb: UInt8Array, header: Any, image_type: Any) -> Any:
    """Make a sensor_msgs/Image of an [H, W, 3] uint8 RGB array; see `array_to_message`."""
    return array_to_message(rgb, "rgb8", header, image_type)


def array_to_message(pixels: NDArray, encoding: str, header: Any, image_type: Any) -> Any:
    """Make a sensor_msgs/Image.

    Args:
        pixels: [H, W] or [H, W, C], in this machine's byte order.
        encoding: the name that fits its samples.
        header: std_msgs/Header to keep.
        image_type: the class ``sensor_msgs.msg.Image``.
    """
    height, width = pixels.shape[:2]
    # The setter takes an array.array as it is, but walks through every element of anything else.
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return image_type(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=pixels.nbytes // height,
        data=data,
    )


def _raw_to_rgb(message: Any, max_pixels: int) -> UInt8Array:
    name = message.encoding
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        if name in DEPTH_ENCODINGS:
            raise EncodingError(f"{name!r} holds depth; give the topic of a colour image")
        return _rgb_by_cv_bridge(message, max_pixels)
    samples = _samples(message, encoding, max_pixels)
    if encoding.dtype is np.uint16:
        upper = 1 if samples.dtype.newbyteorder("<") == samples.dtype else 0
        samples = np.ascontiguousarray(samples[..., None].view(np.uint8)[..., upper])
    if encoding.to_rgb is None:
        return np.ascontiguousarray(samples)
    if encoding.channels == 1:
        samples = samples[:, :, 0]
    return cv2.cvtColor(samples, encoding.to_rgb)  # type: ignore[return-value]


def _rgb_by_cv_bridge(message: Any, max_pixels: int) -> UInt8Array:
    """Let ROS's own converter try an encoding that is not in our table."""
    name = message.encoding
    known = f"known are {', '.join(_ENCODINGS)}"
    try:
        from cv_bridge import CvBridge
    except Exception:  # built for another NumPy, it fails in ways of its own
        raise EncodingError(f"unknown encoding {short_name(name)}; {known}") from None
    height, width, step = int(message.height), int(message.width), int(message.step)
    what = f"{width} x {height} image, {short_name(name)}"
    check_size(width, height, max_pixels, what)
    if step < width or len(message.data) < step * height:
        raise ImageError(f"{what}: {len(message.data)} bytes of data, step {step}")
    try:
        rgb = CvBridge().imgmsg_to_cv2(message, "rgb8")
    except Exception as error:
        raise EncodingError(
            f"{what}: neither we nor cv_bridge decode it ({one_line(error)})"
        ) from None
    return np.ascontiguousarray(rgb)


def short_name(name: str) -> str:
    """Quote a name from the network: it may hold anything, of any length."""
    return repr(name if len(name) <= MAX_ENCODING_NAME else name[:MAX_ENCODING_NAME] + "...")


def one_channel(message: Any, dtype: type, max_pixels: int) -> NDArray:
    """Return an Image's samples as a view [H, W], padding left out, in the message's byte order.

    Raises:
        ImageError: sizes that contradict each other, or more than `max_pixels`.
    """
    return _samples(message, _Encoding(1, None, dtype), max_pixels)[:, :, 0]


def _samples(message: Any, encoding: _Encoding, max_pixels: int) -> NDArray:
    """Return a view [rows, W, channels] of the message's bytes, padding left out."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    what = f"{width} x {height} image, {message.encoding}"
    check_size(width, height, max_pixels, what)
    shares_colour_in_x = encoding.channels == 2 or encoding.chroma_rows
    if (shares_colour_in_x and width % 2) or (encoding.chroma_rows and height % 2):
        raise ImageError(f"{what}: this encoding needs an even size")
    rows = height + int(height * encoding.chroma_rows)
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    pixel_bytes = encoding.channels * dtype.itemsize
    row_bytes = width * pixel_bytes
    if step < row_bytes:
        raise ImageError(f"{what}: step is {step}, but a row takes {row_bytes} bytes")
    data = message_bytes(message)
    needed = step * (rows - 1) + row_bytes
    if data.size < needed:
        raise ImageError(f"{what}: {data.size} bytes of data, but step {step} needs {needed}")
    return np.ndarray(
        (rows, width, encoding.channels),
        dtype,
        buffer=data,
        strides=(step, pixel_bytes, dtype.itemsize),
    )


def _compressed_to_rgb(message: Any, max_pixels: int) -> UInt8Array:
    source_encoding = message.format.split(";")[0].strip()
    if source_encoding in DEPTH_ENCODINGS:
        raise ImageError(
            f"format {short_name(message.format)} holds depth; give the topic of a colour image"
        )
    data = message_bytes(message)
    what = f"compressed image of {data.size} bytes, format {short_name(message.format)}"
    is_photograph = source_encoding in _ENCODINGS  # such as mono16
    rules = PictureRules(
        upright=False,
        max_pixels=max_pixels,
        only_jpeg_and_png=True,
        grey_bits=16 if is_photograph else None,
        colour_bits=16,  # as of raw images; scaling by content would flicker
    )
    return decode_picture(data, what, rules)


def message_bytes(message: Any) -> UInt8Array:
    """Return a message's data as a view, whatever holds it.

    Raises:
        ImageError: there is none.
    """
    if len(message.data) == 0:
        raise ImageError("image without data")
    return np.frombuffer(message.data, np.uint8)
