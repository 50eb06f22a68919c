"""Binary masks: run lengths, windows, and pasting crops into the image. Pure functions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, FloatArray, IntArray


def encode_rle(mask: BoolArray) -> NDArray[np.uint32]:
    """Encode a mask as run lengths.

    Args:
        mask: [h, w] bool.

    Returns:
        uint32 lengths of alternating runs in row-major order; the first run is of zeros (and may
        be 0 long); they sum to h * w. A mask of no pixels gives no runs.
    """
    flat = np.ascontiguousarray(mask).reshape(-1)
    if flat.size == 0:
        return np.zeros(0, np.uint32)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0, 0] if flat[0] else [0], changes, [flat.size]])
    return np.diff(bounds).astype(np.uint32)


def decode_rle(counts: NDArray[np.uint32], size_hw: tuple[int, int]) -> BoolArray:
    """Decode what `encode_rle` made.

    Raises:
        ValueError: the runs do not sum to height * width.
    """
    counts = np.asarray(counts, np.uint32)
    total = int(counts.sum(dtype=np.uint64))
    if total != size_hw[0] * size_hw[1]:
        raise ValueError(f"mask runs sum to {total}, but {size_hw[0]} x {size_hw[1]} was expected")
    values = np.zeros(len(counts), np.bool_)
    values[1::2] = True
    return np.repeat(values, counts).reshape(size_hw)


def mask_windows(masks: BoolArray) -> IntArray:
    """Return the [N, 4] tight pixel windows ``[x0, x1) x [y0, y1)``; zeros for empty masks."""
    windows = np.zeros((len(masks), 4), np.int32)
    for i, mask in enumerate(masks):
        # Rows and columns by cv2.reduce: several times faster than ndarray.any on bool.
        pixels = mask.view(np.uint8)
        columns = np.flatnonzero(cv2.reduce(pixels, 0, cv2.REDUCE_MAX))
        rows = np.flatnonzero(cv2.reduce(pixels, 1, cv2.REDUCE_MAX))
        if len(rows):
            windows[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return windows


def box_windows(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Return the [N, 4] windows of pixels whose centres lie inside each box and the image."""
    height, width = size_hw
    limit = np.array([width, height, width, height])
    windows = np.clip(np.ceil(boxes_xyxy - 0.5), 0, limit).astype(np.int32)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def resample_crops(crops: FloatArray, box_xyxy: FloatArray, window_xyxy: IntArray) -> FloatArray:
    """Resample grids that span a box at the centres of a window's pixels, bilinearly.

    Bilinear interpolation is separable, so two small matrix products do it: faster here than an
    image warp, and exact.

    Args:
        crops: [K, m, m] float32; cell (r, c) is the value at the middle of the box's part (r, c).
        box_xyxy: [4] float32, pixels.
        window_xyxy: [4] int32, pixels; neither side may be empty.

    Returns:
        [K, h, w] float32. Beyond the outermost cell centres the border value holds.
    """
    k, m, _ = crops.shape
    x0, y0, x1, y1 = (int(v) for v in window_xyxy)
    rows = _interpolation_weights(float(box_xyxy[1]), float(box_xyxy[3]), y0, y1, m)
    columns = _interpolation_weights(float(box_xyxy[0]), float(box_xyxy[2]), x0, x1, m)
    stretched = np.matmul(rows, crops).reshape(-1, m)  # [K * h, m]
    return (stretched @ columns.T).reshape(k, y1 - y0, x1 - x0)


def _interpolation_weights(low: float, high: float, first: int, last: int, m: int) -> FloatArray:
    """Return [last - first, m] float32: what each of m cells adds to each pixel along one axis."""
    centres = np.arange(first, last, dtype=np.float32) + np.float32(0.5 - low)
    cell = np.clip(centres * np.float32(m / max(high - low, 1e-6)) - np.float32(0.5), 0, m - 1)
    distance = np.abs(cell[:, None] - np.arange(m, dtype=np.float32))
    return np.maximum(np.float32(1) - distance, np.float32(0))


def mask_iou(a: BoolArray, b: BoolArray) -> FloatArray:
    """Return the [N, M] intersection over union of [N, H, W] and [M, H, W]; 0 for two empties."""
    flat_a = a.reshape(len(a), -1).astype(np.float32)
    flat_b = b.reshape(len(b), -1).astype(np.float32)
    intersection = flat_a @ flat_b.T
    union = flat_a.sum(1)[:, None] + flat_b.sum(1)[None, :] - intersection
    return intersection / np.maximum(union, 1)
