"""Mask R-CNN (He et al., ICCV 2017), on visible or on amodal masks.

    image -> backbone -> feature pyramid -> detector -> boxes
                              |                           |
                              +-------- RoIAlign <--------+
                                           |
                                       mask head

Trained on visible masks it is the plain baseline; on amodal masks and boxes it is ORCNN's and
BCNet's baseline AmodalMRCNN, and with eight convolutions in the mask head PGExp's MRCNN-8. It has
one mask, which is returned as amodal and as visible mask (ORCNN, section 3.3, scores it so).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.models.detector_protocol import image_size_hw, with_masks
from training.models.detectors.box_geometry import boxes_of_masks
from training.models.roi.mask_heads import MASK_CELLS, ROI_CELLS, mask_loss
from training.models.roi.roi_align import crop_masks
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections


class MaskRcnn(nn.Module):
    """Mask R-CNN with one mask head, for visible or for amodal masks.

    Args:
        shared: backbone, pyramid, detector and RoIAlign.
        head: the mask head.
        target: ``visible`` or ``amodal``, which boxes and masks it learns.
    """

    def __init__(self, shared: SharedModules, head: nn.Module, *, target: str) -> None:
        super().__init__()
        self.target = target
        self.normalize = shared.normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.pool = shared.pool
        self.mask_heads = nn.ModuleDict({target: head})

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.fpn(self.backbone(self.normalize(images)))
        proposals = self.detector.detect(levels, image_size_hw(images))
        features = self.pool(levels, proposals.boxes_xyxy, cells=ROI_CELLS)
        logits = self.mask_heads[self.target](features, proposals.labels.flatten())
        mask = logits.sigmoid()
        return with_masks(proposals, amodal=mask, visible=mask)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss; their sum is minimised.

        Args:
            batch: images and truth.
            generator: of random sampling: anchors, proposals and RoIs to train on.
        """
        if self.target == "visible":
            batch = batch._replace(boxes_xyxy=boxes_of_masks(batch.visible))
        levels = self.fpn(self.backbone(self.normalize(batch.images)))
        losses, rois = self.detector.loss_and_rois(levels, batch, generator)
        features = self.pool.of_rois(levels, rois, cells=ROI_CELLS)
        logits = self.mask_heads[self.target](features, rois.labels(batch))
        target = batch.visible if self.target == "visible" else batch.amodal
        loss = mask_loss(logits, crop_masks(target, rois, cells=MASK_CELLS))
        return {**losses, self.target: loss}


@dataclass(frozen=True)
class MaskRcnnSettings(SharedSettings):
    """Mask R-CNN on visible boxes and masks."""

    @property
    def one_mask(self) -> bool:
        """Its mask is both."""
        return True

    def build(self, num_classes: int) -> MaskRcnn:
        """Build the network with random weights."""
        head = self.build_mask_head(num_classes)
        return MaskRcnn(self.build_shared(num_classes), head, target="visible")


@dataclass(frozen=True)
class MaskRcnnLightSettings(LightSharedSettings, MaskRcnnSettings):
    """Mask R-CNN of the default model's size."""


@dataclass(frozen=True)
class AmodalMaskRcnnSettings(SharedSettings):
    """Mask R-CNN on amodal boxes and masks (AmodalMRCNN); ``mask_convs: 8`` makes it MRCNN-8."""

    @property
    def one_mask(self) -> bool:
        """Its mask is both."""
        return True

    def build(self, num_classes: int) -> MaskRcnn:
        """Build the network with random weights."""
        head = self.build_mask_head(num_classes)
        return MaskRcnn(self.build_shared(num_classes), head, target="amodal")


@dataclass(frozen=True)
class AmodalMaskRcnnLightSettings(LightSharedSettings, AmodalMaskRcnnSettings):
    """AmodalMRCNN of the default model's size."""
