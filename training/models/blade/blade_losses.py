"""BLADE's losses (equations 7 and 8): L^v, L^a and L^r of an instance's masks, from boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from training.models.blade.boxinst_losses import (
    inside_boxes,
    mean_of_instances,
    pairwise_loss,
    projection_loss,
)
from training.models.blade.overlap_regions import neighbour_loss, overlap_regions, uniform_loss


@dataclass(frozen=True)
class BladeLossSettings:
    """Weights of BLADE's loss terms; a term of weight 0 is left out.

    Attributes:
        projection_weight: alpha^a_1 of equation 8.
        pairwise_weight: alpha^a_2.
        connectivity_weight: alpha^a_3.
        neighbour_weight: of l_ne in equation 9; the paper has 1.
        uniform_weight: K of equation 14. Ours: 1.
        region_weight: alpha^r of equation 7. Ours: 1.
        visible_threshold: t of equation 10. Ours: 0.5.
        detach_visible_in_losses: l_un does not teach m_v. Ours: true (l_ne never does).
    """

    projection_weight: float = 2.0
    pairwise_weight: float = 1.0
    connectivity_weight: float = 1.0
    neighbour_weight: float = 1.0
    uniform_weight: float = 1.0
    region_weight: float = 1.0
    visible_threshold: float = 0.5
    detach_visible_in_losses: bool = True


class BladeMaskLogits(NamedTuple):
    """Mask logits over the whole image at stride 4, each [..., H / 4, W / 4]; None: no head."""

    visible: Tensor
    amodal: Tensor | None
    region: Tensor | None


class BoxTargets(NamedTuple):
    """Ground-truth boxes of R instances, as masks at stride 4.

    Attributes:
        visible: [R, H, W] bool, the visible box.
        amodal: [R, H, W] bool, the amodal box.
        region: [R, H, W] bool, the overlapping region; nowhere, if nothing overlaps.
    """

    visible: Tensor
    amodal: Tensor
    region: Tensor


@torch.no_grad()
def box_targets(
    visible_xyxy: Tensor, amodal_xyxy: Tensor, valid: Tensor, size_hw: tuple[int, int]
) -> BoxTargets:
    """Rasterize the boxes [B, M, 4] of a batch's instances and their overlapping regions."""
    regions, present = overlap_regions(amodal_xyxy, valid)
    region = inside_boxes(regions, size_hw) & present[..., None, None]
    return BoxTargets(
        inside_boxes(visible_xyxy, size_hw), inside_boxes(amodal_xyxy, size_hw), region
    )


def mask_losses(
    logits: BladeMaskLogits,
    targets: BoxTargets,
    similar: list[Tensor],
    image: Tensor,
    settings: BladeLossSettings,
    pairwise_rate: Tensor,
) -> dict[str, Tensor]:
    """BLADE's mask losses L^v, L^a (equation 8) and L^r (equation 7) by terms, weighted.

    Args:
        logits: of R >= 0 instances, [R, H, W].
        targets: their boxes.
        similar: see `boxinst_losses.similar_colours`.
        image: [R] int64, which image of the batch.
        settings: the weights; a term of weight 0 is left out.
        pairwise_rate: factor of the pairwise losses.
    """
    losses = {
        "visible_projection": mean_of_instances(projection_loss(logits.visible, targets.visible)),
        "visible_pairwise": pairwise_rate
        * pairwise_loss(logits.visible, targets.visible, similar, image),
    }
    if logits.amodal is None:
        return losses
    projection = mean_of_instances(projection_loss(logits.amodal, targets.amodal))
    pairwise = pairwise_loss(logits.amodal, targets.amodal, similar, image)
    losses["amodal_projection"] = settings.projection_weight * projection
    losses["amodal_pairwise"] = settings.pairwise_weight * pairwise_rate * pairwise
    overlapped = targets.region.flatten(1).any(1)
    amodal, region = logits.amodal[overlapped], targets.region[overlapped]
    visible = logits.visible[overlapped].sigmoid()
    if settings.detach_visible_in_losses:
        visible = visible.detach()
    if settings.connectivity_weight and settings.neighbour_weight:
        inside = targets.amodal[overlapped]
        loss = neighbour_loss(
            amodal, visible, region, inside, threshold=settings.visible_threshold
        )
        weight = settings.connectivity_weight * settings.neighbour_weight
        losses["neighbour"] = weight * mean_of_instances(loss)
    if settings.connectivity_weight and settings.uniform_weight:
        loss = uniform_loss(amodal.sigmoid(), visible, region)
        weight = settings.connectivity_weight * settings.uniform_weight
        losses["uniform"] = weight * mean_of_instances(loss)
    if logits.region is not None:
        loss = F.binary_cross_entropy_with_logits(
            logits.region, targets.region.to(logits.region.dtype), reduction="none"
        )
        losses["region"] = settings.region_weight * mean_of_instances(loss.mean((1, 2)))
    return losses
