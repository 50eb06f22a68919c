"""Copy-paste: cut an object out of a photograph and blend it into another."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from amodal_perception.structures import BoolArray, UInt8Array


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object without its surroundings.

    Attributes:
        image: [h, w, 3] uint8 RGB; outside the mask it means nothing.
        mask: [h, w] bool, tight: every border row and column holds a pixel of it.
    """

    image: UInt8Array
    mask: BoolArray

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.mask.shape[0], self.mask.shape[1]


def cut_out(
    image: UInt8Array,
    mask: BoolArray,
    *,
    scale: float = 1.0,
    angle_rad: float = 0.0,
    mirror: bool = False,
) -> Cutout:
    """Cut an object out, then mirror, resize and rotate it.

    Args:
        image: [H, W, 3] uint8 RGB.
        mask: [H, W] bool, not empty.
        scale: ratio of lengths, new to old.
        angle_rad: counter-clockwise as one sees the picture.
        mirror: swap left and right.
    """
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    # Interpolated like the image and cut at one half, the mask ends where the object does.
    layers = np.dstack([image[window], mask[window].view(np.uint8) * np.uint8(255)])
    if mirror:
        layers = np.ascontiguousarray(layers[:, ::-1])
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        layers = np.asarray(cv2.resize(layers, size, interpolation=method))
        if scale > 1:  # an outline of whole pixels would show their steps
            layers[..., 3] = cv2.GaussianBlur(layers[..., 3], (0, 0), 0.6 * scale)
    if angle_rad != 0:
        layers = _rotate(layers, angle_rad)
    inside = layers[..., 3] >= 128
    if not inside.any():  # a few pixels, shrunk to less than one
        inside = layers[..., 3] == layers[..., 3].max()
    x, y, width, height = cv2.boundingRect(inside.view(np.uint8))
    window = slice(y, y + height), slice(x, x + width)
    return Cutout(np.ascontiguousarray(layers[window][..., :3]), inside[window].copy())


def _rotate(layers: UInt8Array, angle_rad: float) -> UInt8Array:
    height, width = layers.shape[:2]
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    new_width = int(np.ceil(abs(cos) * width + abs(sin) * height)) + 2
    new_height = int(np.ceil(abs(sin) * width + abs(cos) * height)) + 2
    turn = np.array([[cos, sin], [-sin, cos]])  # rows point down
    old_centre = np.array([width - 1, height - 1]) / 2
    new_centre = np.array([new_width - 1, new_height - 1]) / 2
    affine = np.column_stack([turn, new_centre - turn @ old_centre])
    size = (new_width, new_height)
    return np.asarray(cv2.warpAffine(layers, affine, size, borderValue=(0, 0, 0, 0)))


def paste(canvas: UInt8Array, cutout: Cutout, top_left_xy: tuple[int, int]) -> None:
    """Draw a cutout into a picture, in place; what lies outside is cut off.

    Its outermost pixels are mixed with what is below, one pixel deep, so that the seam is no
    sharper than a photograph. Pixels outside the mask stay what they were.
    """
    x, y = top_left_xy
    to_rows, from_rows = _inside(y, cutout.size_hw[0], canvas.shape[0])
    to_columns, from_columns = _inside(x, cutout.size_hw[1], canvas.shape[1])
    target = canvas[to_rows, to_columns]
    window = from_rows, from_columns
    mask = cutout.mask[window]
    if not mask.any():
        return
    padded = np.pad(cutout.mask.view(np.uint8), 1)
    weight = cv2.blur(padded.astype(np.float32), (3, 3))[1:-1, 1:-1][window]
    weight = np.where(mask, weight, 0)[..., None]
    mixed = target + weight * (cutout.image[window].astype(np.float32) - target)
    target[:] = np.rint(mixed).astype(np.uint8)


def place(mask: BoolArray, top_left_xy: tuple[int, int], size_hw: tuple[int, int]) -> BoolArray:
    """Return a cutout's mask in a picture of the given size: [H, W] bool, cut at its border."""
    placed = np.zeros(size_hw, np.bool_)
    x, y = top_left_xy
    to_rows, from_rows = _inside(y, mask.shape[0], size_hw[0])
    to_columns, from_columns = _inside(x, mask.shape[1], size_hw[1])
    placed[to_rows, to_columns] = mask[from_rows, from_columns]
    return placed


def _inside(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """Return where an interval lies in [0, limit), and which part of it that is."""
    low, high = min(max(start, 0), limit), min(max(start + length, 0), limit)
    return slice(low, high), slice(low - start, high - start)
