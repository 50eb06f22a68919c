"""ASN (Qi et al., "Amodal Instance Segmentation with KINS Dataset", CVPR 2019).

    boxes -> RoIAlign 7 x 7 -> occlusion branch -> is the object occluded?
                  |                  |
                  +--- extraction ---+   (multi-level coding)
                            |
    boxes -> RoIAlign 14 x 14 -> combination -> amodal head
                            +--> combination -> visible head

The occlusion branch guides the masks. The layers follow the paper's figure
and later re-implementations: four convolutions in the occlusion branch; a deconvolution and two
convolutions extract; three convolutions combine, after the mask head's first. Of the box branch,
two fully connected layers here, the code is its input, the 7 x 7 RoI features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.detector_protocol import image_size_hw, with_masks
from training.models.roi.mask_heads import MASK_CELLS, ROI_CELLS, initialise, mask_loss
from training.models.roi.roi_align import crop_masks
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections

BRANCH_CELLS = 7
BRANCH_CONVS = 4
OCCLUDED_RATE = 0.05
"""An object counts as occluded when more than this part of it is hidden."""


class OcclusionBranch(nn.Module):
    """Occlusion branch: classifies RoIs as occluded or not, from 7 x 7 features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, channels) for _ in range(BRANCH_CONVS))
        self.logit = nn.Linear(channels * BRANCH_CELLS**2, 1)
        nn.init.normal_(self.logit.weight, std=0.01)
        nn.init.zeros_(self.logit.bias)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Map [R, C, 7, 7] to logits [R] of being occluded and features [R, C, 7, 7]."""
        x = roi_features
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.logit(x.flatten(1))[:, 0].float(), x


class Extraction(nn.Module):
    """Multi-level coding: features of both branches, 7 x 7, to the mask heads' 14 x 14."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.conv1 = _conv(channels, channels)
        self.conv2 = _conv(channels, channels)
        initialise([self.upsample])

    def forward(self, box_features: Tensor, occlusion_features: Tensor) -> Tensor:
        """Map twice [R, C, 7, 7] to codes [R, C, 14, 14]."""
        x = F.relu(self.upsample(torch.cat([box_features, occlusion_features], 1)))
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class CodedMaskHead(nn.Module):
    """Mask head that merges the codes into its features after the first convolution."""

    def __init__(self, channels: int, rest: nn.Module) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.combination = nn.ModuleList(
            [
                _conv(2 * channels, 2 * channels),
                _conv(2 * channels, 2 * channels),
                _conv(2 * channels, channels),
            ]
        )
        self.rest = rest

    def forward(self, roi_features: Tensor, codes: Tensor, labels: Tensor) -> Tensor:
        """Map [R, C, 14, 14] features and codes, and classes [R], to logits [R, 28, 28]."""
        x = torch.cat([F.relu(self.first(roi_features)), codes], 1)
        for conv in self.combination:
            x = F.relu(conv(x))
        return self.rest(x, labels)


class Asn(nn.Module):
    """ASN: a detector, an occlusion branch, and mask heads that its features guide."""

    def __init__(
        self, shared: SharedModules, amodal: CodedMaskHead, visible: CodedMaskHead
    ) -> None:
        super().__init__()
        self.normalize = shared.normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.pool = shared.pool
        self.occlusion = OcclusionBranch(shared.channels)
        self.extraction = Extraction(shared.channels)
        self.mask_heads = nn.ModuleDict({"amodal": amodal, "visible": visible})

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.fpn(self.backbone(self.normalize(images)))
        proposals = self.detector.detect(levels, image_size_hw(images))
        small = self.pool(levels, proposals.boxes_xyxy, cells=BRANCH_CELLS)
        large = self.pool(levels, proposals.boxes_xyxy, cells=ROI_CELLS)
        _, z_A, z_V = self.heads(small, large, proposals.labels.flatten())
        return with_masks(proposals, amodal=z_A.sigmoid(), visible=z_V.sigmoid())

    def heads(self, small: Tensor, large: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map RoI features [R, C, 7, 7] and [R, C, 14, 14] to logits.

        Returns:
            Of being occluded [R], of the amodal and of the visible mask [R, 28, 28].
        """
        occlusion, features = self.occlusion(small)
        codes = self.extraction(small, features)  # [R, C, 14, 14]
        z_A = self.mask_heads["amodal"](large, codes, labels)
        z_V = self.mask_heads["visible"](large, codes, labels)
        return occlusion, z_A, z_V

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss; their sum is minimised.

        Args:
            batch: images and truth.
            generator: of random sampling: anchors, proposals and RoIs to train on.
        """
        levels = self.fpn(self.backbone(self.normalize(batch.images)))
        losses, rois = self.detector.loss_and_rois(levels, batch, generator)
        small = self.pool.of_rois(levels, rois, cells=BRANCH_CELLS)
        large = self.pool.of_rois(levels, rois, cells=ROI_CELLS)
        occlusion, z_A, z_V = self.heads(small, large, rois.labels(batch))
        hidden = is_occluded(batch)[rois.image, rois.instance]
        count = all_reduce_mean(occlusion.new_tensor(float(len(hidden)))).clamp(min=1.0)
        return {
            **losses,
            "occlusion": F.binary_cross_entropy_with_logits(occlusion, hidden, reduction="sum")
            / count,
            "amodal": mask_loss(z_A, crop_masks(batch.amodal, rois, cells=MASK_CELLS)),
            "visible": mask_loss(z_V, crop_masks(batch.visible, rois, cells=MASK_CELLS)),
        }


@torch.no_grad()
def is_occluded(batch: Batch) -> Tensor:
    """Return which instances are occluded, [B, M] float32, 0 or 1."""
    amodal = batch.amodal.flatten(2).sum(2, dtype=torch.float32)
    visible = batch.visible.flatten(2).sum(2, dtype=torch.float32)
    return (amodal - visible > OCCLUDED_RATE * amodal).to(torch.float32)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    initialise([conv])
    return conv


@dataclass(frozen=True)
class AsnSettings(SharedSettings):
    """ASN as published."""

    def build(self, num_classes: int) -> Asn:
        """Build the network with random weights."""
        shared = self.build_shared(num_classes)
        heads = [
            CodedMaskHead(
                shared.channels, self.build_mask_head(num_classes, convs=self.mask_convs - 1)
            )
            for _ in range(2)
        ]
        return Asn(shared, *heads)


@dataclass(frozen=True)
class AsnLightSettings(LightSharedSettings, AsnSettings):
    """ASN of the default model's size."""
