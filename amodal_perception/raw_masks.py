"""What the network gives ("raw"): every detection's own masks, pasted at image size.

Nothing is owned and nothing repeated is dropped: a pixel may be of many detections, as the
papers' protocols (AP, AP_V, AP_AV, AP_IV, AP-occ) want it. `postprocess` makes of the same outputs
what the robot is told ("scene").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.boxes import clip_boxes
from amodal_perception.runtime.contract import RawDetections
from amodal_perception.structures import BoolArray, FloatArray, IntArray, LetterboxTransform

BORDER_CELLS = 2
"""Zeros around a grid, so that positions beyond it find nothing."""


@dataclass(frozen=True, eq=False)
class PastedDetections:
    """N detections with their own masks at camera resolution, best score first.

    Attributes:
        boxes_xyxy: [N, 4] float32, camera pixels, clipped to the image.
        scores: [N] float32.
        labels: [N] int32.
        size_hw: of the camera image, pixels.
        windows_xyxy: [N, 4] int32, where each crop lies in the image.
        masks: by kind (``amodal``, ``visible`` and, where the network has it, ``occluded``) N
            crops [h, w] bool of the windows' size. A visible mask need not be inside the amodal.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: IntArray
    size_hw: tuple[int, int]
    windows_xyxy: IntArray
    masks: dict[str, tuple[BoolArray, ...]]

    def __len__(self) -> int:
        return len(self.scores)


def paste_detections(
    raw: RawDetections,
    transform: LetterboxTransform,
    *,
    score_threshold: float = 0.0,
    mask_threshold: float = 0.5,
) -> PastedDetections:
    """Paste the masks of all detections that lie in the image.

    Left out are padding (score 0), boxes or scores that are no finite numbers, and boxes that do
    not reach into the image, as Detectron2's ``detector_postprocess`` leaves out empty ones. A
    mask without a pixel above the threshold stays: it is a false alarm.

    Args:
        raw: the network's outputs, input pixels.
        transform: where the camera image lies in the input.
        score_threshold: lowest score kept, 0..1.
        mask_threshold: lowest probability of a mask's pixel, 0..1.
    """
    boxes_xyxy = transform.boxes_to_camera(raw.boxes_xyxy).astype(np.float32)
    clipped_xyxy = clip_boxes(boxes_xyxy, transform.camera_hw)
    kept = np.isfinite(raw.boxes_xyxy).all(axis=1)
    kept &= (raw.scores > 0) & (raw.scores >= score_threshold)  # NaN is neither
    kept &= (clipped_xyxy[:, :2] < clipped_xyxy[:, 2:]).all(axis=1)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(-raw.scores[rows], kind="stable")]
    kinds = {"amodal": raw.amodal, "visible": raw.visible, "occluded": raw.occluded}
    given = {name: masks[rows] for name, masks in kinds.items() if masks is not None}
    windows = pasting_windows(boxes_xyxy[rows], transform.camera_hw)
    masks = {
        name: tuple(
            paste_crop(crop, box, window) >= mask_threshold
            for crop, box, window in zip(crops, boxes_xyxy[rows], windows)
        )
        for name, crops in given.items()
    }
    return PastedDetections(
        boxes_xyxy=clipped_xyxy[rows],
        scores=raw.scores[rows].astype(np.float32),
        labels=raw.labels[rows].astype(np.int32),
        size_hw=transform.camera_hw,
        windows_xyxy=windows,
        masks=masks,
    )


def pasting_windows(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> IntArray:
    """Return the [N, 4] windows of pixels that masks in boxes can reach: a pixel beyond them."""
    height, width = size_hw
    limit = np.array([width, height, width, height])
    reach = np.concatenate([np.floor(boxes_xyxy[:, :2]) - 1, np.ceil(boxes_xyxy[:, 2:]) + 1], 1)
    windows = np.clip(reach, 0, limit).astype(np.int32)
    windows[:, 2:] = np.maximum(windows[:, 2:], windows[:, :2])
    return windows


def paste_crop(crop: FloatArray, box_xyxy: FloatArray, window_xyxy: IntArray) -> FloatArray:
    """Resample a grid that spans a box at the pixels' centres, zero beyond its outermost cells.

    Detectron2's ``paste_masks_in_image``, which is PyTorch's bilinear ``grid_sample`` with
    ``align_corners=False``: the same operations in the same order and precision, so that masks
    are equal to the pixel. (As PyTorch rounds on a CPU with fused multiply-add; elsewhere a value
    that is 0.5 but for rounding may fall on the other side.)

    Args:
        crop: [m, m] float32.
        box_xyxy: [4] float32, pixels.
        window_xyxy: [4] int32, pixels.

    Returns:
        [h, w] float32, of the window.
    """
    left, top, right, bottom = window_xyxy.tolist()
    x0, y0, x1, y1 = box_xyxy
    bordered = np.pad(crop, BORDER_CELLS)
    row, north, south = _cells(top, bottom, y0, y1, len(crop))
    column, west, east = _cells(left, right, x0, x1, len(crop))
    at_west, at_east = bordered[:, column], bordered[:, column + 1]
    return (
        at_west[row] * (north[:, None] * west)
        + at_east[row] * (north[:, None] * east)
        + at_west[row + 1] * (south[:, None] * west)
        + at_east[row + 1] * (south[:, None] * east)
    )


def _cells(
    first: int, end: int, low: np.float32, high: np.float32, cells: int
) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """Return for pixels along an axis the bordered cell before each, its weight and the next's."""
    centres = np.arange(first, end, dtype=np.float32) + np.float32(0.5)
    with np.errstate(over="ignore"):
        grid = (centres - low) / (high - low) * 2 - 1
        # Multiplied and subtracted in one step, rounded once.
        position = ((grid + 1).astype(np.float64) * (cells / 2) - 0.5).astype(np.float32)
        before = np.floor(position)
        share = position - before
    cell = np.clip(before, -BORDER_CELLS, cells).astype(np.intp) + BORDER_CELLS
    return cell, 1 - share, share
