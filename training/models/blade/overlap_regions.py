"""Overlapping regions and connectivity loss: BLADE's directed expansion from boxes alone.

Liu, Li and Jiang, "BLADE: Box-Level Supervised Amodal Segmentation through Directed Expansion",
AAAI 2024. Equations are those of the paper.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.blade.pixel_pairs import both_ends, log_different, log_same


@torch.no_grad()
def overlap_regions(boxes_xyxy: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the overlapping regions (equations 4 to 6): where something may hide an object.

    Args:
        boxes_xyxy: [B, M, 4] amodal boxes.
        valid: [B, M] bool, False for padding.

    Returns:
        [B, M, 4] the box around all intersections with other boxes, and [B, M] bool, whether there
        is one. The paper does not say which overlap is valid: here, any of more than 0 pixels.
    """
    a, b = boxes_xyxy[:, :, None], boxes_xyxy[:, None]
    low = torch.maximum(a[..., :2], b[..., :2])  # [B, M, M, 2]
    high = torch.minimum(a[..., 2:], b[..., 2:])
    others = ~torch.eye(boxes_xyxy.shape[1], dtype=torch.bool, device=boxes_xyxy.device)
    meets = (high > low).all(-1) & others & valid[:, :, None] & valid[:, None]
    first = torch.where(meets[..., None], low, math.inf).amin(2)
    last = torch.where(meets[..., None], high, -math.inf).amax(2)
    present = meets.any(2)
    return torch.where(present[..., None], torch.cat([first, last], -1), 0.0), present


def neighbour_loss(
    amodal: Tensor, visible: Tensor, region: Tensor, inside: Tensor, *, threshold: float
) -> Tensor:
    """Neighbour loss l_ne (equations 10 to 13): visible pixels and neighbours share a label.

    Args:
        amodal: [R, H, W] logits.
        visible: [R, H, W] probabilities; no gradient goes there.
        region: [R, H, W] bool, the overlapping region.
        inside: [R, H, W] bool, the amodal box.
        threshold: t, above which a pixel is seen.

    Returns:
        [R], the mean over an instance's edges with a seen end in the region, counted once; 0
        where there are none.
    """
    seen = region & (visible.detach() > threshold)
    number = torch.arange(len(amodal), device=amodal.device)[:, None, None]
    total, edges = amodal.new_zeros(len(amodal)), amodal.new_zeros(len(amodal))
    for (x, y), (a_seen, b_seen), (a_inside, b_inside) in zip(
        both_ends(amodal), both_ends(seen), both_ends(inside)
    ):
        counts = a_seen | b_seen
        row = number.expand_as(counts)[counts]
        consistent = (a_inside == b_inside)[counts]
        a, b = x.masked_select(counts), y.masked_select(counts)
        loss = -torch.where(consistent, log_same(a, b), log_different(a, b))
        total = total.index_add(0, row, loss)
        edges = edges.index_add(0, row, torch.ones_like(loss))
    return total / edges.clamp(min=1.0)


def uniform_loss(amodal: Tensor, visible: Tensor, region: Tensor) -> Tensor:
    """Uniform loss l_un (equation 14) without K: visible pixels are amodal pixels.

    Args:
        amodal: [R, H, W] probabilities.
        visible: [R, H, W] probabilities.
        region: [R, H, W] bool.

    Returns:
        [R], the mean over the region; 0 where there is none.
    """
    missing = F.relu(visible - amodal) * region
    return missing.sum((1, 2)) / region.sum((1, 2)).clamp(min=1)


def fuse(visible: Tensor, amodal: Tensor, region: Tensor) -> Tensor:
    """Fuse to m (equation 2): amodal where others overlap, visible elsewhere; [..., H, W]."""
    return amodal * region + visible * (1 - region)
