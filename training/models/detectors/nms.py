"""Non-maximum suppression (NMS) as static matrix operations, for export."""

from __future__ import annotations

import torch
from torch import Tensor

from training.models.detector_protocol import Proposals
from training.models.detectors.box_geometry import box_iou

ITERATIONS = 10
"""Exact for chains of suppression of up to this many links (A removes B, which would have removed
C, and so on).

Every pass settles at least one more link of each chain, so the result equals greedy suppression
wherever no chain is longer. On 3000 random sets of 192 crowded boxes, 9 passes always sufficed. A
longer chain leaves a box too many or too few, never an error.
"""
PRODUCT_FROM = 512
"""Number of boxes from which on a matrix product is several times faster than a maximum."""


def matrix_nms(
    boxes_xyxy: Tensor, *, iou_threshold: float, labels: Tensor | None = None
) -> Tensor:
    """Mark the boxes that greedy NMS keeps (Cluster-NMS, Zheng et al., 2020).

    Args:
        boxes_xyxy: [B, K, 4], sorted by descending score.
        iou_threshold: a box goes when it overlaps a better kept one by more than this.
        labels: [B, K]; boxes of different labels do not suppress each other. None: one label.

    Returns:
        [B, K] float32, 1 for boxes to keep.
    """
    iou = box_iou(boxes_xyxy[:, :, None], boxes_xyxy[:, None])  # [B, better, worse]
    overlaps = torch.triu((iou > iou_threshold).to(torch.float32), diagonal=1)
    if labels is not None:
        overlaps = overlaps * (labels[:, :, None] == labels[:, None]).to(torch.float32)
    keep = torch.ones_like(overlaps[:, 0])
    for _ in range(ITERATIONS):
        if int(keep.shape[1]) >= PRODUCT_FROM:
            suppressors = (keep[:, None] @ overlaps)[:, 0]  # how many, exact
            keep = (suppressors < 0.5).to(torch.float32)
        else:
            keep = 1 - (overlaps * keep[:, :, None]).amax(1)
    return keep


def nms_per_class(
    scores: Tensor,
    boxes_xyxy: Tensor,
    *,
    candidates: int,
    instances: int,
    iou_threshold: float,
    vote_iou: float | None = None,
) -> Proposals:
    """Class-wise NMS, then the best boxes of all classes, with optional box voting.

    Args:
        scores: [B, L, K] of every point or proposal for every class.
        boxes_xyxy: [B, L, 4], or [B, L, K, 4] where every class has a box of its own.
        candidates: how many of the best go into the suppression; as many as there can be with
            scores above 0, unless objects may be lost.
        instances: how many to return.
        iou_threshold: of the suppression.
        vote_iou: candidates with this IoU or more with a kept box are averaged into it,
            see `box_voting`; None: no voting.
    """
    L, K = int(scores.shape[1]), int(scores.shape[2])
    top, index = scores.flatten(1).topk(min(candidates, L * K), dim=1)  # [B, candidates]
    point = index // K if K > 1 else index
    labels = index - point * K if K > 1 else torch.zeros_like(index)
    if boxes_xyxy.ndim == 4:
        boxes = _rows(boxes_xyxy.flatten(1, 2), index)
    else:
        boxes = _rows(boxes_xyxy, point)
    kept = top * matrix_nms(boxes, iou_threshold=iou_threshold, labels=labels if K > 1 else None)
    best, order = kept.topk(min(instances, int(kept.shape[1])), dim=1)
    found = Proposals(_rows(boxes, order), best, labels.gather(1, order), point.gather(1, order))
    if vote_iou is None:
        return found
    weights = top[:, None]
    if K > 1:
        weights = weights * (found.labels[:, :, None] == labels[:, None]).to(top.dtype)
    return found._replace(
        boxes_xyxy=box_voting(found.boxes_xyxy, boxes, weights, iou_threshold=vote_iou)
    )


def box_voting(
    kept_xyxy: Tensor, boxes_xyxy: Tensor, weights: Tensor, *, iou_threshold: float
) -> Tensor:
    """Box voting (Gidaris and Komodakis, ICCV 2015): average boxes that nearly agree.

    Args:
        kept_xyxy: [B, N, 4], some of the following.
        boxes_xyxy: [B, K, 4].
        weights: [B, N or 1, K] of the latter in the mean of each of the former.
        iou_threshold: lowest IoU of boxes that agree.

    Returns:
        [B, N, 4]
    """
    agree = box_iou(kept_xyxy[:, :, None], boxes_xyxy[:, None]) >= iou_threshold
    weights = weights * agree.to(weights.dtype)
    sums = weights @ torch.cat([boxes_xyxy, torch.ones_like(boxes_xyxy[..., :1])], 2)
    total = sums[..., 4:]
    # Where all weights are 0, the box stays as it is.
    return kept_xyxy + (sums[..., :4] - total * kept_xyxy) / total.clamp(min=1e-9)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows of [B, L, D] by [B, N] indices: [B, N, D]."""
    return values.gather(1, index[..., None].expand(-1, -1, int(values.shape[2])))
