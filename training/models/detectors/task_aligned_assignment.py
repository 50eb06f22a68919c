"""Task-aligned label assignment of points to objects.

Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021. A point is a good match if
it already scores high and predicts the box well. Unlike centre sampling this assigns points
on the visible side of an occluded object, when another object covers its amodal box's centre.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.models.detectors.box_geometry import box_iou

POINTS_PER_OBJECT = 10
SCORE_POWER = 0.5
IOU_POWER = 6.0


class Assignment(NamedTuple):
    """Training targets of all points.

    Attributes:
        gt_index: [B, L] int64, the object that a positive point is assigned to; any valid
            index elsewhere.
        quality: [B, L] float32, target score; 0 at negative points. The best point of an object
            has the IoU of its box, the others less.
        iou: [B, L] float32, IoU of the predicted box with the object's; 0 at negative points.
    """

    gt_index: Tensor
    quality: Tensor
    iou: Tensor


@torch.no_grad()
def task_aligned_assignment(
    scores: Tensor, boxes_xyxy: Tensor, points_xy: Tensor, gt_xyxy: Tensor, gt_valid: Tensor
) -> Assignment:
    """Assign points to ground-truth objects by the alignment metric score^0.5 IoU^6.

    Args:
        scores: [B, M, L] predicted scores in [0, 1], for each object's class.
        boxes_xyxy: [B, L, 4] predicted boxes, pixels.
        points_xy: [L, 2] positions of the points, pixels.
        gt_xyxy: [B, M, 4] objects' boxes, padded.
        gt_valid: [B, M] bool, False for padding.
    """
    iou = box_iou(gt_xyxy[:, :, None], boxes_xyxy[:, None])  # [B, M, L]
    top_left = points_xy - gt_xyxy[:, :, None, :2]
    bottom_right = gt_xyxy[:, :, None, 2:] - points_xy
    inside = torch.minimum(top_left, bottom_right).amin(-1) > 0  # [B, M, L]
    candidate = inside & gt_valid[:, :, None]
    alignment = scores.pow(SCORE_POWER) * iou.pow(IOU_POWER) * candidate  # [B, M, L]

    best, index = alignment.topk(min(POINTS_PER_OBJECT, alignment.shape[2]), dim=2)
    positive = torch.zeros_like(alignment).scatter(2, index, (best > 0).to(alignment.dtype))
    # A point that is positive for several objects is assigned to the one of the highest IoU.
    wanted_iou = torch.where(positive > 0, iou, torch.full_like(iou, -1.0))
    point_iou, gt_index = wanted_iou.max(1)  # [B, L]
    owner = torch.zeros_like(alignment).scatter(1, gt_index[:, None], 1.0)
    positive = positive * owner

    alignment = alignment * positive
    scale = (iou * positive).amax(2) / alignment.amax(2).clamp(min=1e-9)  # [B, M]
    quality = (alignment * scale[:, :, None]).amax(1)
    return Assignment(gt_index, quality, point_iou.clamp(min=0) * (quality > 0))
