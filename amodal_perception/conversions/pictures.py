"""Compressed pictures (JPEG, PNG, WebP, TIFF ...) to RGB: one set of rules for files and topics.

OpenCV decodes. What it would do without a word is looked at here: a picture that ends early is
grey from there on, 16-bit samples lose their lower half, a WebP stays lying on its side, and
distances become a picture.
"""

from __future__ import annotations

import logging
import re
import struct
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import ImageError
from amodal_perception.structures import UInt8Array

logger = logging.getLogger(__name__)

SENSOR_BITS = (10, 12, 14, 16)
"""Significant bits of 16-bit samples, as cameras have them."""
KEEP_DEPTH = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR  # palettes, CMYK and alpha still become BGR
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK_BYTES = 12  # length, name and checksum
PNG_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# In a scan, FF is followed by 00 (a sample), by D0 to D7 (restart), or it is a marker.
JPEG_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
EXIF_ORIENTATION = 0x0112
MAX_EXIF_BYTES = 1 << 17  # a segment has at most 64 KiB, and stands first or second


@dataclass(frozen=True)
class PictureRules:
    """How a picture is read.

    Attributes:
        upright: turn it as its EXIF data asks.
        max_pixels: a larger one is refused before it is decoded; None: OpenCV's limit.
        only_jpeg_and_png: refuse all other formats, as for pictures from the network.
        grey_bits: significant bits of 16-bit grey; None refuses it, as it may be depth.
        colour_bits: significant bits of 16-bit colour; None takes the fewest of `SENSOR_BITS` that
            hold the brightest sample, and says so.
    """

    upright: bool = True
    max_pixels: int | None = None
    only_jpeg_and_png: bool = False
    grey_bits: int | None = None
    colour_bits: int | None = None


FILE_RULES = PictureRules()


def decode_picture(data: UInt8Array, name: str, rules: PictureRules = FILE_RULES) -> UInt8Array:
    """Decode a compressed picture from its bytes, [N] uint8, to [H, W, 3] uint8 RGB.

    Bytes behind its end (a camera's buffer of fixed size) do no harm.

    Args:
        data: the file, or the data of the message.
        name: of the picture, for messages.
        rules: how it is read.

    Raises:
        ImageError: no picture, cut short, damaged, too large, or of samples that are no colours.
    """
    size_wh = png_size_wh(data, name) or _jpeg_size_wh(data, name)
    if size_wh is None and rules.only_jpeg_and_png:
        raise ImageError(f"{name}: neither a JPEG nor a PNG image, or cut short")
    if size_wh is not None and rules.max_pixels is not None:
        check_size(*size_wh, rules.max_pixels, name)
    orientation = _webp_orientation(data) if rules.upright else 1
    flags = KEEP_DEPTH
    if not rules.upright or orientation != 1:  # newer versions of OpenCV may turn a WebP
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        samples = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:
        reason = " ".join(str(error.err or error).split())
        raise ImageError(f"{name}: cannot be decoded ({reason})") from None
    if samples is None:
        raise ImageError(f"{name}: {_what_instead(data)}")
    return _turned(_to_rgb8(samples, name, rules), orientation)


def size_hw(data: UInt8Array, name: str) -> tuple[int, int]:
    """Read the height and width that a picture has when turned upright, pixels.

    Nothing is decoded of a JPEG, or of a PNG that is not turned.

    Args:
        data: the file, [N] uint8.
        name: of the picture, for messages.

    Raises:
        ImageError: as `decode_picture`.
    """
    size_wh = _jpeg_size_wh(data, name) or png_size_wh(data, name)
    if size_wh is None or (data[:8].tobytes() == PNG_SIGNATURE and b"eXIf" in data.tobytes()):
        height, width = decode_picture(data, name, PictureRules(grey_bits=16)).shape[:2]
        return height, width
    width, height = size_wh
    start = data[:MAX_EXIF_BYTES].tobytes()
    at = start.find(b"Exif\0\0")
    lies = at >= 0 and _exif_orientation(start[at:]) >= 5
    return (width, height) if lies else (height, width)


def _what_instead(data: UInt8Array) -> str:
    """Say what a file is that OpenCV cannot decode, where many people have such ones."""
    start = data[:64].tobytes()
    if start[4:8] == b"ftyp":
        kind = "AVIF" if start[8:11] == b"avi" else "HEIC"
        return f"is a {kind} picture, which is not read here; convert it to JPEG or PNG"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the picture; fetch it (git lfs pull)"
    if start.lstrip().startswith(b"<"):
        return "is a web page or XML, no picture; was it downloaded in whole?"
    return "is not a picture, or is damaged"


def check_size(width: int, height: int, max_pixels: int, what: str) -> None:
    """Raise ImageError where a size is not that of an image, or exceeds `max_pixels`."""
    if width <= 0 or height <= 0:
        raise ImageError(f"{what}: width and height must be positive")
    if width * height > max_pixels:
        raise ImageError(f"{what}: {width} x {height} is more than {max_pixels} pixels")


def _to_rgb8(samples: NDArray, name: str, rules: PictureRules) -> UInt8Array:
    """Turn what OpenCV decoded, [H, W] or [H, W, 3] BGR of any type, into RGB of 8 bits."""
    is_grey = samples.ndim == 2 or samples.shape[2] == 1
    if rules.colour_bits is None and not is_grey and _is_grey_as_colour(samples):
        samples, is_grey = samples[:, :, 0], True
    if samples.dtype == np.uint16:
        bits = rules.grey_bits if is_grey else rules.colour_bits
        if bits is None and is_grey:
            remedy = (
                "give the topic of a colour image, or publish 8 bits"
                if rules.only_jpeg_and_png
                else "for a photograph tell its significant bits (amodal predict --grey-bits 12), "
                "or store it in 8 bits"
            )
            raise ImageError(
                f"{name}: 16-bit grey may be depth, or a photograph of unknown range; {remedy}"
            )
        samples = _upper_8_bits(samples, bits or _bits_of_colour(samples), name)
    elif samples.dtype in (np.float32, np.float64) and not is_grey:
        if not (samples.min() >= 0 and samples.max() <= 1):  # NaN fails both
            raise ImageError(
                f"{name}: floating-point colours outside 0 to 1; store the picture in 8 bits"
            )
        samples = np.rint(samples * 255).astype(np.uint8)
    elif samples.dtype != np.uint8:
        raise ImageError(
            f"{name}: one {samples.dtype} a pixel is depth or a measurement, no photograph; give "
            "the colour image, or store the picture in 8 bits"
            if is_grey
            else f"{name}: colours as {samples.dtype}; store the picture in 8 bits"
        )
    to_rgb = cv2.COLOR_GRAY2RGB if is_grey else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(samples, to_rgb)  # type: ignore[return-value]


def _is_grey_as_colour(samples: NDArray) -> bool:
    """Tell whether 16-bit samples, [H, W, 3], are grey stored as colour, or with alpha."""
    return samples.dtype == np.uint16 and bool((samples[:, :, :1] == samples[:, :, 1:]).all())


def _bits_of_colour(samples: NDArray) -> int:
    brightest = int(samples.max())
    bits = next(bits for bits in SENSOR_BITS if brightest < 1 << bits)
    if bits < 16:
        _warn_of_scaling(bits)
    return bits


@cache
def _warn_of_scaling(bits: int) -> None:
    """Say it once: a folder of such pictures would fill the screen."""
    logger.warning(
        "16-bit colour pictures that use %d bits only are brightened to fill 8 bits",
        bits,
    )


def _upper_8_bits(samples: NDArray, bits: int, name: str) -> NDArray:
    if int(samples.max()) >> bits:
        raise ImageError(f"{name}: has samples up to {samples.max()}, more than {bits} bits hold")
    return (samples >> (bits - 8)).astype(np.uint8)


def png_size_wh(data: UInt8Array, name: str) -> tuple[int, int] | None:
    """Read width and height from a PNG's header; None if it is no PNG.

    Every chunk must lie in the data: OpenCV reserves what a chunk's length announces, gigabytes,
    before it looks whether there is so much. Animations take another path there, and are refused.
    """
    if data[:8].tobytes() != PNG_SIGNATURE:
        return None
    view, at, size_wh = data.data, 8, None
    while at + PNG_CHUNK_BYTES <= data.size:
        length, kind = struct.unpack_from(">I4s", view, at)
        if kind in PNG_ANIMATION:
            raise ImageError(f"{name}: an animated PNG is no picture; store one of its frames")
        if size_wh is None:
            if kind != b"IHDR" or length != 13:
                raise ImageError(f"{name}: damaged PNG image, it has no header")
            size_wh = struct.unpack_from(">II", view, at + 8)
        if at + PNG_CHUNK_BYTES + length > data.size:
            break
        if kind == b"IEND":
            return size_wh
        at += PNG_CHUNK_BYTES + length
    raise ImageError(f"{name}: PNG image cut short, its end is missing")


def _jpeg_size_wh(data: UInt8Array, name: str) -> tuple[int, int] | None:
    """Read width and height from a JPEG's frame header; None if it is no JPEG.

    A JPEG that ends early still decodes, grey from there on, so its end marker must be there.
    """
    if data[:2].tobytes() != JPEG_START:
        return None
    content, at, size_wh = data.tobytes(), 2, None
    while 0 < (at := content.find(b"\xff", at)) <= len(content) - 4:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a body
            at += 2
        elif marker == 0xDA:  # here the samples begin
            if size_wh is not None and _jpeg_ends(content, at):
                return size_wh
            break
        else:
            is_frame_header = 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
            if is_frame_header and at + 9 < len(content):
                height, width = struct.unpack_from(">HH", content, at + 5)
                size_wh = width, height
            at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise ImageError(f"{name}: JPEG image cut short or damaged, its end is missing")


def _jpeg_ends(content: bytes, scan_at: int) -> bool:
    """Tell whether the end marker follows the scan that begins at `scan_at`."""
    if content.rstrip(b"\0").endswith(JPEG_END):  # nearly all; zeros fill a camera's buffer
        return True
    at = scan_at
    while match := JPEG_MARKER_IN_SCAN.search(content, at):
        if match.group() == JPEG_END:
            return True
        if match.group() == JPEG_START:  # an older picture in the same buffer
            return False
        at = match.start() + 2
        at += int.from_bytes(content[at : at + 2], "big")
    return False


def _webp_orientation(data: UInt8Array) -> int:
    """Read EXIF's orientation, 1 to 8, of a WebP; 1, which is upright, of all else."""
    if data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"WEBP":
        return 1
    at = 12
    while at + 8 <= data.size:
        kind, length = struct.unpack_from("<4sI", data.data, at)
        if kind == b"EXIF":
            return _exif_orientation(data[at + 8 : at + 8 + length].tobytes())
        at += 8 + length + length % 2
    return 1


def _exif_orientation(exif: bytes) -> int:
    """Read the orientation of an EXIF block; 1 where there is none, or the block is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, at + 2 + 12 * entry)
            if tag == EXIF_ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _turned(image: UInt8Array, orientation: int) -> UInt8Array:
    """Turn an [H, W, 3] image upright that lies as EXIF's orientation says."""
    if orientation >= 5:  # rows and columns are swapped
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
