"""Axis-aligned boxes, xyxy float32 pixels: pure NumPy geometry."""

from __future__ import annotations

import numpy as np

from amodal_perception.structures import FloatArray


def box_area(boxes_xyxy: FloatArray) -> FloatArray:
    """Return [N] areas in square pixels; a box with negative width or height has area 0."""
    size = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    return size[:, 0] * size[:, 1]


def box_iou(a_xyxy: FloatArray, b_xyxy: FloatArray) -> FloatArray:
    """Return the [N, M] intersection over union of every pair; 0 where both areas are 0."""
    top_left = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    bottom_right = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    size = np.clip(bottom_right - top_left, 0, None)
    intersection = size[..., 0] * size[..., 1]
    union = box_area(a_xyxy)[:, None] + box_area(b_xyxy)[None, :] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def clip_boxes(boxes_xyxy: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    """Return the [N, 4] boxes with every corner moved into the image."""
    height, width = size_hw
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(boxes_xyxy, 0, limit)


def xyxy_to_xywh(boxes_xyxy: FloatArray) -> FloatArray:
    """Convert [N, 4] corners to top-left corner, width, height (the COCO form)."""
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)


def xywh_to_xyxy(boxes_xywh: FloatArray) -> FloatArray:
    """Convert [N, 4] top-left corner, width, height (the COCO form) to corners."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
