"""Read and write image files; always RGB inside."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from amodal_perception.conversions.pictures import PictureRules, decode_picture
from amodal_perception.errors import ImageError
from amodal_perception.files import atomic_write
from amodal_perception.structures import UInt8Array


def read_image(path: Path, *, grey_bits: int | None = None) -> UInt8Array:
    """Read a picture file as [H, W, 3] uint8 RGB, turned upright as its EXIF data asks.

    Args:
        path: of the file.
        grey_bits: significant bits of 16-bit grey pictures; None refuses them: they may be depth.

    Raises:
        ImageError: missing, unreadable, no picture, cut short, or depth.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from None
    if content.size == 0:
        raise ImageError(f"{path}: is empty")
    return decode_picture(content, str(path), PictureRules(grey_bits=grey_bits))


def encode_image(image: UInt8Array, ending: str) -> bytes:
    """Encode [H, W, 3] uint8 RGB as a picture file's bytes; `ending` is ``.png`` or ``.jpg``."""
    _, content = cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return content.tobytes()


def data_url(image: UInt8Array, *, max_width_px: int | None = None) -> str:
    """Encode [H, W, 3] uint8 RGB for an HTML page that needs no other file, shrunk if too wide."""
    height, width = image.shape[:2]
    if max_width_px is not None and width > max_width_px:
        size_wh = max_width_px, max(round(height * max_width_px / width), 1)
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    content = base64.b64encode(encode_image(image, ".jpg")).decode("ascii")
    return f"data:image/jpeg;base64,{content}"


def write_image(path: Path, image: UInt8Array) -> None:
    """Write [H, W, 3] uint8 RGB in the format of the path's ending, whole or not at all."""
    content = encode_image(image, path.suffix)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
