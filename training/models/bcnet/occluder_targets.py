"""Occluder targets of BCNet's first layer: the union of an object's overlapping neighbours.

The released code takes every neighbour whose box overlaps, in front or behind; so an object is
occluder for its neighbours and occludee among them. It builds the unions once, as thinned
polygons without holes; here they are bitmaps, made from the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.models.detectors.box_geometry import box_iou, boxes_of_masks
from training.structures import Batch

NEIGHBOUR_MASKS = ("visible", "amodal")
BALANCES = ("drawn", "released")
FEWEST_PX = 20
"""A union of at most so many pixels inside the object's box counts as empty."""


@torch.no_grad()
def occluder_masks(
    batch: Batch, *, neighbour_masks: str, order_aware: bool, overlap_iou: float
) -> Tensor:
    """Occluder targets: the union of the masks of every instance's neighbours.

    Args:
        batch: the truth; its boxes are those the RoIs are made for.
        neighbour_masks: ``visible``: the seen surface of neighbours, which is what hides an
            object (later re-implementations); ``amodal``: their complete masks (the authors, on
            amodal data). The boxes compared are the instance's own and the neighbour's of that
            mask.
        order_aware: only neighbours in front: those seen inside more of the object than the
            object is inside them.
        overlap_iou: neighbours have boxes with a larger IoU than this (released: 0.05, of boxes
            with inclusive corners, which is the IoU of ours).

    Returns:
        [B, M, H, W] uint8, 0 or 1. Not clipped to the instance's box: the crop of a RoI does
        that, so that a RoI larger than the object is not taught that its neighbour ends there.
    """
    masks = batch.visible if neighbour_masks == "visible" else batch.amodal
    boxes = boxes_of_masks(masks)
    iou = box_iou(batch.boxes_xyxy[:, :, None], boxes[:, None])  # [B, M, M], [i, j]: j for i
    near = (iou > overlap_iou) & batch.valid[:, :, None] & batch.valid[:, None]
    near = near & ~torch.eye(near.shape[1], dtype=torch.bool, device=near.device)
    if order_aware:
        near = near & _in_front(batch)
    unions = torch.zeros_like(masks)
    for b in range(len(masks)):
        for i in torch.nonzero(near[b].any(1))[:, 0].tolist():
            union = masks[b, near[b, i]].amax(0)
            x0, y0, x1, y1 = batch.boxes_xyxy[b, i].round().int().tolist()
            if union[max(0, y0) : y1, max(0, x0) : x1].sum() > FEWEST_PX:
                unions[b, i] = union
    return unions


def _in_front(batch: Batch) -> Tensor:
    """Return whether j is in front of i at [b, i, j]: [B, M, M] bool."""
    visible, amodal = (m.flatten(2).to(torch.float32) for m in (batch.visible, batch.amodal))
    seen_inside = torch.matmul(amodal, visible.transpose(1, 2))  # |amodal_i and visible_j|
    return seen_inside > seen_inside.transpose(1, 2)


@torch.no_grad()
def balanced_rois(occluder: Tensor, rule: str, generator: torch.Generator) -> Tensor:
    """Balanced sampling of the RoIs that train the occluder layer: about half are occluded.

    Args:
        occluder: [R, m, m] targets; an RoI is occluded if its own is not empty.
        rule: ``drawn``: the n occluded RoIs and n of the others, drawn, or all if there are fewer
            (the paper: part of the non-occluded RoIs is filtered out); ``released``: the n
            occluded RoIs and the first n of all, some of which may be the same.
        generator: on the CPU.

    Returns:
        Indices of RoIs, [at most 2 n] int64; none if no RoI is occluded.
    """
    occluded = occluder.flatten(1).any(1)
    chosen = torch.nonzero(occluded)[:, 0]
    if rule == "released":
        return torch.cat([chosen, torch.arange(len(chosen), device=chosen.device)])
    others = torch.nonzero(~occluded)[:, 0]
    order = torch.randperm(len(others), generator=generator)[: len(chosen)]
    return torch.cat([chosen, others[order.to(others.device)]])
