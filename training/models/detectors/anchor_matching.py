"""Anchor matching by IoU, and balanced sampling of positives and negatives.

The rules of Faster R-CNN (Ren et al., NeurIPS 2015, section 3.1), for anchors and proposals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.models.detectors.box_geometry import box_iou


@torch.no_grad()
def match_anchors(
    boxes_xyxy: Tensor, gt_xyxy: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Match the anchors (or proposals) of one image to its ground-truth boxes by IoU.

    Args:
        boxes_xyxy: [P, 4].
        gt_xyxy: [M, 4], padded, M > 0.
        valid: [M] bool, False for padding.

    Returns:
        The IoU with the best object [P] (-1 if there is none), that object's index [P], and
        [P] bool, whether an object has no better box than this one.
    """
    iou = box_iou(gt_xyxy[:, None], boxes_xyxy)  # [M, P]
    iou = torch.where(valid[:, None], iou, torch.full_like(iou, -1.0))
    best_iou, index = iou.max(0)
    if not len(boxes_xyxy):  # no maximum of nothing
        return best_iou, index, torch.zeros_like(index, dtype=torch.bool)
    best_of_object = iou.amax(1, keepdim=True)
    best_box = ((iou == best_of_object) & (best_of_object > 0)).any(0)
    return best_iou, index, best_box


@torch.no_grad()
def sample_anchors(
    positive: Tensor, negative: Tensor, *, count: int, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sample a balanced mini-batch of positive and negative anchors.

    Args:
        positive: [P] bool.
        negative: [P] bool.
        count: how many in all.
        share: largest fraction that is positive.
        generator: on the CPU.

    Returns:
        Indices of positives, [at most count * share] int64, and of negatives, which fill up.
    """
    sampled = _sample(positive, int(count * share), generator)
    return sampled, _sample(negative, count - len(sampled), generator)


def _sample(marked: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    index = torch.nonzero(marked)[:, 0]
    order = torch.randperm(len(index), generator=generator)[:limit]
    return index[order.to(index.device)]
