"""Binary masks: run-length encoding, tight windows, pasting crops into the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, FloatArray, IntArray


def encode_row_major_rle(mask: BoolArray) -> NDArray[np.uint32]:
    """Encode a mask as run lengths (RLE), row by row; COCO's go column by column.

    Args:
        mask: [h, w] bool.

    Returns:
        uint32 lengths of alternating runs in row-major order; the first run is of zeros (and may
        be 0 long); they sum to h * w. A mask of no pixels gives no runs.
    """
    return encode_row_major_rles([mask])[0]


def encode_row_major_rles(masks: Sequence[BoolArray]) -> list[NDArray[np.uint32]]:
    """Encode many masks at once, which is faster than one by one; see `encode_row_major_rle`."""
    if not masks:
        return []
    # All pixels in one row. The zero before each mask makes sure that its first run is of zeros.
    zero = np.zeros(1, np.bool_)
    row = np.concatenate([part for mask in masks for part in (zero, mask.reshape(-1))])
    starts = np.cumsum([0] + [1 + mask.size for mask in masks[:-1]])
    begins_run = np.empty(len(row), np.bool_)
    np.not_equal(row[1:], row[:-1], out=begins_run[1:])
    begins_run[starts] = True
    begins = np.flatnonzero(begins_run)
    runs = np.diff(begins, append=len(row)).astype(np.uint32)
    first = np.searchsorted(begins, starts)
    runs[first] -= 1
    bounds = [*first.tolist(), len(runs)]
    return [runs[a:b] if mask.size else runs[:0] for mask, a, b in zip(masks, bounds, bounds[1:])]


def mask_windows(
    masks: Sequence[BoolArray] | BoolArray, corners_xy: IntArray | None = None
) -> IntArray:
    """Return the tight pixel windows of masks; an empty mask has one of no pixels at its corner.

    Args:
        masks: N arrays [h, w] bool.
        corners_xy: [N, 2] pixels, where in the image each begins; None: at (0, 0).

    Returns:
        [N, 4] int32 ``[x0, x1) x [y0, y1)``.
    """
    boxes_xywh = [cv2.boundingRect(mask.view(np.uint8)) for mask in masks]
    windows = np.array(boxes_xywh, np.int32).reshape(-1, 4)
    windows[:, 2:] += windows[:, :2]
    return windows if corners_xy is None else windows + np.tile(corners_xy, 2)


def box_windows(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Return the [N, 4] windows of pixels whose centres lie inside each box and the image."""
    height, width = size_hw
    limit = np.array([width, height, width, height])
    windows = np.clip(np.ceil(boxes_xyxy - 0.5), 0, limit).astype(np.int32)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def resample_to_windows(
    crops: FloatArray, boxes_xyxy: FloatArray, windows_xyxy: IntArray
) -> FloatArray:
    """Resample grids that span boxes so that they span windows of whole pixels, bilinearly.

    Then a plain resize, which is much faster than a warp, puts each into its window. Leaving this
    out, that is moving boxes to whole pixels, costs objects of 25 to 50 pixels 1.6 points of IoU.

    Args:
        crops: [N, K, m, m] float32; cell (r, c) is the value at the middle of the box's part
            (r, c).
        boxes_xyxy: [N, 4] float32, pixels.
        windows_xyxy: [N, 4] int32, pixels.

    Returns:
        [N, m, m, K] float32. Beyond the outermost cell centres the border value holds.
    """
    n, m = len(crops), crops.shape[-1]
    sources, targets = (
        box.reshape(n, 2, 2).transpose(0, 2, 1).reshape(2 * n, 2)  # in x, then in y
        for box in (boxes_xyxy, windows_xyxy.astype(np.float32))
    )
    columns, rows = _cell_weights(sources, targets, m).reshape(n, 2, m, m).transpose(1, 0, 2, 3)
    # Products this small stay in one thread of BLAS, so they do not wait for the engine's threads.
    fitted = rows[:, None] @ crops @ columns[:, None].transpose(0, 1, 3, 2)
    return np.stack(list(fitted.transpose(1, 0, 2, 3)), axis=-1)  # faster than a transposed copy


def resize_crop(crop: FloatArray, window_xyxy: IntArray) -> list[FloatArray]:
    """Resize a grid that spans a window, [m, m, K], to its pixels: K arrays [h, w] float32."""
    x0, y0, x1, y1 = window_xyxy.tolist()
    resized = cv2.resize(crop, (x1 - x0, y1 - y0))
    # Takes less than half the time of cv2.split.
    return [cv2.extractChannel(resized, k) for k in range(crop.shape[2])]  # type: ignore[misc]


def _cell_weights(sources: FloatArray, targets: FloatArray, m: int) -> FloatArray:
    """Return [N, m, m]: what the cells of each source interval [N, 2] add to the target's."""
    fraction = (np.arange(m, dtype=np.float32) + 0.5) / m
    centres = targets[:, :1] + (targets[:, 1:] - targets[:, :1]) * fraction
    cells_per_px = m / np.maximum(sources[:, 1:] - sources[:, :1], 1e-6)
    cell = np.clip((centres - sources[:, :1]) * cells_per_px - 0.5, 0, m - 1)
    distance = np.abs(cell[:, :, None] - np.arange(m, dtype=np.float32))
    return np.maximum(1 - distance, 0).astype(np.float32)
