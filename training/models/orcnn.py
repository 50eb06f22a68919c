"""ORCNN (Follmann et al., WACV 2019): amodal boxes, then amodal, visible and occluded masks.

image -> backbone -> feature pyramid -> detector -> amodal boxes
                          |                             |
                          +--------- RoIAlign <---------+
                                        |
                           amodal head, visible head -> occluded = amodal - relu(visible)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.backbones.normalize import Normalize
from training.models.detector_protocol import image_size_hw, with_masks
from training.models.mask_scoring import rescore_by_maskness
from training.models.roi.mask_heads import MASK_CELLS, ROI_CELLS, mask_loss
from training.models.roi.roi_align import crop_masks
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections


class OrcnnMaskLogits(NamedTuple):
    """Mask logits inside the amodal boxes of R RoIs, each [R, 28, 28]."""

    amodal: Tensor
    visible: Tensor
    occluded: Tensor


class OrcnnMaskHeads(nn.Module):
    """Two unshared heads on the same RoI features; the occluded mask is their difference.

    Args:
        amodal: a mask head.
        visible: another of the same kind; it starts with the weights of the first.
        independent: no gradient from visible and occluded masks to the amodal head and to the
            features (the paper's "independent").
    """

    def __init__(
        self, amodal: nn.Module, visible: nn.Module, *, independent: bool = False
    ) -> None:
        super().__init__()
        self.amodal = amodal
        self.visible = visible
        self.independent = independent
        visible.load_state_dict(amodal.state_dict())

    def forward(self, roi_features: Tensor, labels: Tensor) -> OrcnnMaskLogits:
        """Predict the three masks of RoIs from [R, C, 14, 14], for their classes [R]."""
        z_A = self.amodal(roi_features, labels)
        features = roi_features.detach() if self.independent else roi_features
        z_V = self.visible(features, labels)
        whole = z_A.detach() if self.independent else z_A
        # Without the ReLU a confident "not visible" would turn background into "occluded".
        return OrcnnMaskLogits(z_A, z_V, whole - F.relu(z_V))


class Orcnn(nn.Module):
    """Occlusion R-CNN: a detector, then amodal, visible and occluded mask of every RoI."""

    def __init__(
        self, shared: SharedModules, heads: OrcnnMaskHeads, settings: OrcnnSettings
    ) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = Normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.pool = shared.pool
        self.mask_heads = heads

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.fpn(self.backbone(self.normalize(images)))
        proposals = self.detector.detect(levels, image_size_hw(images))
        features = self.pool(levels, proposals.boxes_xyxy, cells=ROI_CELLS)
        z = self.mask_heads(features, proposals.labels.flatten())
        found = with_masks(
            proposals,
            amodal=z.amodal.sigmoid(),
            visible=z.visible.sigmoid(),
            occluded=z.occluded.sigmoid(),
        )
        return rescore_by_maskness(found) if self.settings.mask_scores else found

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss, weighted; their sum is minimised.

        Args:
            batch: images and truth.
            generator: of random sampling: anchors, proposals and RoIs to train on.
        """
        levels = self.fpn(self.backbone(self.normalize(batch.images)))
        losses, rois = self.detector.loss_and_rois(levels, batch, generator)
        features = self.pool.of_rois(levels, rois, cells=ROI_CELLS)
        z = self.mask_heads(features, rois.labels(batch))
        amodal = crop_masks(batch.amodal, rois, cells=MASK_CELLS)
        visible = crop_masks(batch.visible, rois, cells=MASK_CELLS)
        return {**losses, **occlusion_losses(z, amodal, visible, self.settings)}


def occlusion_losses(
    logits: OrcnnMaskLogits, amodal: Tensor, visible: Tensor, settings: OrcnnSettings
) -> dict[str, Tensor]:
    """ORCNN's mask losses L_A, L_V and L_IV, weighted; a term of weight 0 is left out.

    Args:
        logits: of R >= 0 RoIs.
        amodal: [R, m, m] float32, 0 or 1.
        visible: [R, m, m] float32, 0 or 1, a subset of amodal.
        settings: the weights.
    """
    occluded = amodal * (1 - visible)
    cells = 1 + (settings.hidden_weight - 1) * occluded
    losses = {"amodal": mask_loss(logits.amodal, amodal, cells)}
    if settings.visible_weight:
        loss = mask_loss(logits.visible, visible, cells)
        losses["visible"] = settings.visible_weight * loss
    if settings.occluded_weight:
        loss = mask_loss(logits.occluded, occluded)
        losses["occluded"] = settings.occluded_weight * loss
    return losses


@dataclass(frozen=True)
class OrcnnSettings(SharedSettings):
    """ORCNN as published.

    The paper's variants: ``w/o L_IV`` is ``occluded_weight: 0``, ``w/o L_V`` is
    ``visible_weight: 0`` (the visible head then learns through the occluded mask alone),
    ``independent`` and ``cls-agn`` (`class_agnostic`) are settings.

    Attributes:
        visible_weight: of L_V in the loss; the paper's is 1.
        occluded_weight: of L_IV; the paper's is 1. On visible pixels L_IV pulls the amodal logits
            down until the visible ones have grown; from scratch a smaller weight learns amodal
            masks sooner.
        hidden_weight: of hidden pixels in L_A and L_V; the paper's is 1. They are few (6 % of the
            amodal boxes' area in the simulated scenes), and all that is known of the order of
            objects comes from them.
        independent: no gradient of L_V and L_IV to the amodal head and the features.
        mask_scores: multiply scores by the maskness of the masks, see `rescore_by_maskness`; the
            paper's scores are the detector's.
    """

    visible_weight: float = 1.0
    occluded_weight: float = 1.0
    hidden_weight: float = 1.0
    independent: bool = False
    mask_scores: bool = False

    def build(self, num_classes: int) -> Orcnn:
        """Build the network with random weights."""
        heads = OrcnnMaskHeads(
            self.build_mask_head(num_classes),
            self.build_mask_head(num_classes),
            independent=self.independent,
        )
        return Orcnn(self.build_shared(num_classes), heads, self)


@dataclass(frozen=True)
class OrcnnLightSettings(LightSharedSettings, OrcnnSettings):
    """The default model."""
