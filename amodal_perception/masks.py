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
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        windows[i] = x, y, x + width, y + height
    return windows


def box_windows(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Return the [N, 4] windows of pixels whose centres lie inside each box and the image."""
    height, width = size_hw
    limit = np.array([width, height, width, height])
    windows = np.clip(np.ceil(boxes_xyxy - 0.5), 0, limit).astype(np.int32)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def resample_crops(
    crops: FloatArray, box_xyxy: FloatArray, window_xyxy: IntArray
) -> list[FloatArray]:
    """Resample grids that span a box at the centres of a window's pixels, bilinearly.

    Sub-pixel on purpose: moving the box to whole pixels, as a plain resize would, costs objects
    of 25 to 50 pixels 1.6 points of IoU.

    Args:
        crops: [K, m, m] float32; cell (r, c) is the value at the middle of the box's part (r, c).
        box_xyxy: [4] float32, pixels.
        window_xyxy: [4] int32, pixels; neither side may be empty.

    Returns:
        K arrays [h, w] float32. Beyond the outermost cell centres the border value holds.
    """
    m = crops.shape[1]
    x0, y0, x1, y1 = (int(v) for v in window_xyxy)
    left, top, right, bottom = (float(v) for v in box_xyxy)
    cells_x, cells_y = m / max(right - left, 1e-6), m / max(bottom - top, 1e-6)
    # Pixel column k of the window has its centre at x0 + k + 0.5; cell c has its at c + 0.5.
    pixel_to_cell = np.array(
        [
            [cells_x, 0, (x0 + 0.5 - left) * cells_x - 0.5],
            [0, cells_y, (y0 + 0.5 - top) * cells_y - 0.5],
        ]
    )
    # One thread of OpenCV: matrix products would do the same, but the threads of BLAS would wait
    # for cores on which the engine's threads still spin.
    warped = cv2.warpAffine(
        crops.transpose(1, 2, 0),
        pixel_to_cell,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return list(cv2.split(warped))  # type: ignore[arg-type]
