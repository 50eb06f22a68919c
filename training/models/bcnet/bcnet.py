"""BCNet (Ke et al., CVPR 2021): every RoI is two layers, the occluder over the occludee.

    image -> backbone -> feature pyramid -> detector -> boxes
                              |                           |
                              +-------- RoIAlign <--------+
                                           |
                 bilayer head: occluder's mask and contour, occludee's mask and contour

The occludee is the object itself. The detector is FCOS, as released, or Faster R-CNN, of which
the paper reports figures. Published and released code differ; settings say which side they take.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training.models.bcnet.bilayer_head import ORDERS, BilayerHead, BilayerLogits, BilayerSettings
from training.models.bcnet.contours import contours
from training.models.bcnet.gcn import NORMS
from training.models.bcnet.occluder_targets import (
    BALANCES,
    NEIGHBOUR_MASKS,
    balanced_rois,
    occluder_masks,
)
from training.models.detector_protocol import Proposals, image_size_hw, with_masks
from training.models.detectors.box_geometry import boxes_of_masks
from training.models.roi.mask_heads import MASK_CELLS, ROI_CELLS, mask_loss
from training.models.roi.roi_align import crop_masks
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections

VISIBLE_MASKS = ("difference", "tail", "amodal")
TARGETS = ("amodal", "visible")
VISIBLE_WEIGHT = 1.0


class Bcnet(nn.Module):
    """BCNet: a detector and the bilayer head, on boxes [B, N, 4] of [B, H, W, 3] images."""

    def __init__(self, shared: SharedModules, head: BilayerHead, settings: BcnetSettings) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = shared.normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.pool = shared.pool
        self.mask_heads = head

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        proposals, z = self.layers(images)
        amodal = z.occludee_mask.sigmoid()
        occluder = None if z.occluder_mask is None else z.occluder_mask.sigmoid()
        visible = amodal
        if z.visible is not None:
            visible = z.visible.sigmoid()
        elif self.settings.hides and occluder is not None:
            visible = torch.minimum(amodal, 1 - occluder)  # of the object and not covered
        return with_masks(
            proposals,
            amodal=amodal,
            visible=visible,
            occluder=occluder if self.settings.deliver_occluder else None,
        )

    def layers(self, images: Tensor) -> tuple[Proposals, BilayerLogits]:
        """Detect boxes in [B, H, W, 3] images; predict both layers of all B * N RoIs."""
        levels = self.fpn(self.backbone(self.normalize(images)))
        proposals = self.detector.detect(levels, image_size_hw(images))
        return proposals, self.mask_heads(self.pool(levels, proposals.boxes_xyxy, cells=ROI_CELLS))

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss, weighted; their sum is minimised.

        Args:
            batch: images and truth.
            generator: of random sampling: anchors, proposals and RoIs to train on.
        """
        settings = self.settings
        if settings.target == "visible":
            batch = batch._replace(boxes_xyxy=boxes_of_masks(batch.visible), amodal=batch.visible)
        levels = self.fpn(self.backbone(self.normalize(batch.images)))
        losses, rois = self.detector.loss_and_rois(levels, batch, generator)
        z = self.mask_heads(self.pool.of_rois(levels, rois, cells=ROI_CELLS))
        occludee = crop_masks(batch.amodal, rois, cells=MASK_CELLS)
        visible = crop_masks(batch.visible, rois, cells=MASK_CELLS)
        neighbours = occluder_masks(
            batch,
            neighbour_masks=settings.neighbour_masks,
            order_aware=settings.order_aware,
            overlap_iou=settings.overlap_iou,
        )
        occluder = crop_masks(neighbours, rois, cells=MASK_CELLS)
        chosen = balanced_rois(occluder, settings.balance, generator)
        return {**losses, **layer_losses(z, occluder, occludee, visible, chosen, settings)}


def layer_losses(
    logits: BilayerLogits,
    occluder: Tensor,
    occludee: Tensor,
    visible: Tensor,
    chosen: Tensor,
    settings: BcnetSettings,
) -> dict[str, Tensor]:
    """BCNet's mask and contour losses (equations 10, 11), weighted; none without logits.

    Args:
        logits: of R RoIs.
        occluder: [R, m, m] float32, 0 or 1.
        occludee: [R, m, m] float32, 0 or 1.
        visible: [R, m, m] float32, 0 or 1.
        chosen: [n] int64, the RoIs that the occluder's terms are the mean of.
        settings: the weights.
    """
    losses = {}
    if logits.occluder_contour is not None:
        loss = mask_loss(logits.occluder_contour[chosen], contours(occluder)[chosen])
        losses["occluder_contour"] = settings.occluder_contour_weight * loss
    if logits.occluder_mask is not None:
        loss = mask_loss(logits.occluder_mask[chosen], occluder[chosen])
        losses["occluder_mask"] = settings.occluder_mask_weight * loss
    if logits.occludee_contour is not None:
        loss = mask_loss(logits.occludee_contour, contours(occludee))
        losses["occludee_contour"] = settings.occludee_contour_weight * loss
    loss = mask_loss(logits.occludee_mask, occludee)
    losses["occludee_mask"] = settings.occludee_mask_weight * loss
    if logits.visible is not None:
        losses["visible"] = VISIBLE_WEIGHT * mask_loss(logits.visible, visible)
    return losses


@dataclass(frozen=True)
class BcnetSettings(SharedSettings, BilayerSettings):
    """BCNet as released where the paper is silent or its code runs better.

    Attributes:
        detector: ``fcos`` as released, or ``faster_rcnn``.
        box_weight: of FCOS's regression: 1.25 as released, 1 as published.
        score_threshold: of FCOS's classes.
        target: what the occludee is: ``amodal`` (KINS, COCOA) or ``visible`` (modal training, as
            on COCO: visible boxes, and one mask, returned as both).
        neighbour_masks: whose union the occluder is: ``visible``, the surface that hides (later
            re-implementations), or ``amodal`` (the authors, on amodal data).
        order_aware: only neighbours in front (ours); else any that overlaps (released).
        overlap_iou: boxes of neighbours have a larger IoU than this.
        balance: ``drawn``: as many other RoIs as occluded ones, drawn (published); ``released``:
            the first RoIs of the batch.
        visible_mask: the paper has none on amodal data. ``difference``: amodal and not occluder,
            without further layers: what of a neighbour is seen inside an object hides it. It
            holds if `neighbour_masks` is ``visible`` or `order_aware` is true, and there is an
            occluder's mask; otherwise the amodal mask is returned as both. ``tail``: a third
            tail of the occludee's branch (ours). ``amodal``: the amodal mask.
        deliver_occluder: return the occluder's mask, as the contract's ``occluder``.
    """

    detector: str = "fcos"
    class_agnostic: bool = True
    box_weight: float = 1.25
    score_threshold: float = 0.03
    target: str = "amodal"
    neighbour_masks: str = "visible"
    order_aware: bool = False
    overlap_iou: float = 0.05
    balance: str = "drawn"
    visible_mask: str = "difference"
    deliver_occluder: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, valid in (
            ("order", ORDERS),
            ("gcn_norm", NORMS),
            ("target", TARGETS),
            ("neighbour_masks", NEIGHBOUR_MASKS),
            ("balance", BALANCES),
            ("visible_mask", VISIBLE_MASKS),
        ):
            if getattr(self, key) not in valid:
                raise ConfigError(
                    f"model.{key} must be one of {', '.join(valid)}, but is '{getattr(self, key)}'"
                )
        if not self.class_agnostic:
            raise ConfigError("model.class_agnostic must be true: BCNet has one mask for all")
        if self.occludee_mask_weight <= 0:
            raise ConfigError("model.occludee_mask_weight must be above 0: it is the result")

    @property
    def hides(self) -> bool:
        """Whether what the occluder's mask covers of an object is hidden."""
        hiding = self.neighbour_masks == "visible" or self.order_aware
        return self.target == "amodal" and self.visible_mask == "difference" and hiding

    @property
    def one_mask(self) -> bool:
        """Whether the occludee's mask is returned as amodal and as visible."""
        has_occluder = self.bilayer and self.occluder_mask_weight > 0
        return self.visible_mask != "tail" and not (self.hides and has_occluder)

    def build(self, num_classes: int) -> Bcnet:
        """Build the network with random weights."""
        shared = self.build_shared(
            num_classes,
            fcos={"box_weight": self.box_weight, "score_threshold": self.score_threshold},
        )
        head = BilayerHead(
            shared.channels, self.mask_width, self, visible_tail=self.visible_mask == "tail"
        )
        return Bcnet(shared, head, self)


@dataclass(frozen=True)
class BcnetLightSettings(LightSharedSettings, BcnetSettings):
    """BCNet of the default model's size; with the light one-stage detector instead of FCOS."""
