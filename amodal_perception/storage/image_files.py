"""Read and write image files; always RGB inside."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from amodal_perception.errors import ImageError
from amodal_perception.files import atomic_write
from amodal_perception.structures import UInt8Array


def read_image(path: Path) -> UInt8Array:
    """Read a picture file as [H, W, 3] uint8 RGB, turned upright as its EXIF data asks.

    Raises:
        ImageError: missing, unreadable, or no picture.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    return decode_image(content, str(path))


def decode_image(content: UInt8Array, name: str) -> UInt8Array:
    """Decode a compressed picture (JPEG, PNG, ...) from its bytes to [H, W, 3] uint8 RGB.

    Raises:
        ImageError: not a picture, or damaged; `name` says which.
    """
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error as error:
        raise ImageError(f"{name}: cannot be decoded ({error.err})") from None
    if image is None:
        raise ImageError(f"{name}: is not a picture, or is damaged")
    rgb: UInt8Array = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    return rgb


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
