"""Boxes as tensors: xyxy, input pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Return [...] areas of [..., 4] boxes; 0 where a side is negative."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def intersection_and_union(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return areas of intersection and union of boxes whose leading shapes broadcast."""
    top_left = torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    bottom_right = torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    size = (bottom_right - top_left).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
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
    """Move every corner into the image."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    height, width = size_hw
    return torch.stack(
        [x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], -1
    )
