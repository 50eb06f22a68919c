"""Box coding (R-CNN deltas), IoU and GIoU of box tensors: xyxy, input pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Return [...] areas of [..., 4] boxes; 0 where a side is negative."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def intersection_and_union(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return areas of intersection and union of boxes whose leading shapes broadcast."""
    # Coordinate by coordinate: pairs of numbers as last dimension would be several times slower.
    a_x0, a_y0, a_x1, a_y1 = a_xyxy.unbind(-1)
    b_x0, b_y0, b_x1, b_y1 = b_xyxy.unbind(-1)
    width = (torch.minimum(a_x1, b_x1) - torch.maximum(a_x0, b_x0)).clamp(min=0)
    height = (torch.minimum(a_y1, b_y1) - torch.maximum(a_y0, b_y0)).clamp(min=0)
    intersection = width * height
    return intersection, box_area(a_xyxy) + box_area(b_xyxy) - intersection


def box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return the IoU of boxes whose leading shapes broadcast; [N,1,4] and [M,4] give [N,M]."""
    intersection, union = intersection_and_union(a_xyxy, b_xyxy)
    return intersection / union.clamp(min=1e-6)


def generalized_box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return GIoU (Rezatofighi et al., CVPR 2019) of broadcasting boxes, in [-1, 1]."""
    intersection, union = intersection_and_union(a_xyxy, b_xyxy)
    hull_size = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]) - torch.minimum(
        a_xyxy[..., :2], b_xyxy[..., :2]
    )
    hull = (hull_size[..., 0] * hull_size[..., 1]).clamp(min=1e-6)
    return intersection / union.clamp(min=1e-6) - (hull - union) / hull


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Clip boxes to the image."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    height, width = size_hw
    return torch.stack(
        [x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], -1
    )


MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest growth of a side that a delta may ask for, as in Detectron."""


def encode_boxes(boxes_xyxy: Tensor, reference_xyxy: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Encode boxes as R-CNN's regression deltas (Girshick et al., CVPR 2014, appendix C).

    Args:
        boxes_xyxy: what to express.
        reference_xyxy: anchors or proposals.
        weights: of the shifts in x and y and of the logarithms of width and height.

    Returns:
        [..., 4] shifts in units of the reference's size and log ratios of sizes, weighted.
    """
    size, centre = _size_and_centre(boxes_xyxy)
    reference_size, reference_centre = _size_and_centre(reference_xyxy)
    shift = (centre - reference_centre) / reference_size
    scale = torch.log(size / reference_size)
    return torch.cat([shift, scale], -1) * boxes_xyxy.new_tensor(weights)


def decode_boxes(deltas: Tensor, reference_xyxy: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Decode regression deltas to boxes, [..., 4] xyxy: the inverse of `encode_boxes`."""
    shift, scale = (deltas / deltas.new_tensor(weights)).split(2, dim=-1)
    reference_size, reference_centre = _size_and_centre(reference_xyxy)
    centre = reference_centre + shift * reference_size
    half = reference_size * scale.clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def _size_and_centre(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy.split(2, dim=-1)
    size = (high - low).clamp(min=1e-3)
    return size, low + size / 2
