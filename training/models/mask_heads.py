"""ORCNN's mask heads (Follmann et al., WACV 2019): amodal, visible, occluded by subtraction."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.backbone import conv_norm


class MaskLogits(NamedTuple):
    """Logits inside the amodal box, each [R, m, m]."""

    amodal: Tensor
    visible: Tensor
    occluded: Tensor


class MaskHead(nn.Module):
    """Convolutions on 14 x 14 cells, context from 7 x 7, a deconvolution to 28 x 28, logits.

    ORCNN stacks four 3x3 convolutions of 256 channels. At the light model's width such a stack
    sees too little of the RoI at once to tell the object from what covers it, so two of the
    convolutions work on half the resolution, where they see nearly all of the RoI for a quarter
    of the cost. Batch normalisation is added, because the model starts from scratch.
    """

    def __init__(self, in_channels: int, width: int, context_width: int) -> None:
        super().__init__()
        self.fine = conv_norm(in_channels, width)
        self.context = nn.Sequential(
            nn.AvgPool2d(2),
            conv_norm(width, context_width),
            nn.ReLU(inplace=True),
            conv_norm(context_width, context_width),
            nn.ReLU(inplace=True),
            conv_norm(context_width, width, size=1),
        )
        self.merge = conv_norm(width, width)
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = nn.Conv2d(width, 1, 1)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.upsample.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, roi_features: Tensor) -> Tensor:
        """Map [R, C, 14, 14] to logits [R, 28, 28]."""
        fine = F.relu(self.fine(roi_features))
        context = F.interpolate(self.context(fine), scale_factor=2.0, mode="nearest")
        merged = F.relu(self.merge(F.relu(fine + context)))
        return self.logits(F.relu(self.upsample(merged)))[:, 0]


class OcclusionMaskHeads(nn.Module):
    """Two unshared heads on the same RoI features; the occluded mask is their difference."""

    def __init__(self, in_channels: int, width: int, context_width: int) -> None:
        super().__init__()
        self.amodal = MaskHead(in_channels, width, context_width)
        self.visible = MaskHead(in_channels, width, context_width)

    def forward(self, roi_features: Tensor) -> MaskLogits:
        """Predict the three masks of every RoI from [R, C, 14, 14]."""
        z_A = self.amodal(roi_features).float()
        z_V = self.visible(roi_features).float()
        # Without the ReLU a confident "not visible" would turn background into "occluded".
        return MaskLogits(z_A, z_V, z_A - F.relu(z_V))


def mask_losses(
    logits: MaskLogits, amodal: Tensor, visible: Tensor, hidden_weight: float = 1.0
) -> dict[str, Tensor]:
    """Return L_A, L_V and L_IV, each a mean binary cross-entropy over the grids.

    Args:
        logits: of R >= 0 RoIs.
        amodal: [R, m, m] float32, 0 or 1.
        visible: [R, m, m] float32, 0 or 1, a subset of amodal.
        hidden_weight: how much a hidden cell counts in L_A and L_V; another cell counts 1.
    """
    hidden = amodal * (1 - visible)
    weight = 1 + (hidden_weight - 1) * hidden
    count = max(amodal.numel(), 1)

    def loss(z: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        total = F.binary_cross_entropy_with_logits(z, target, weight, reduction="sum")
        return total / count

    return {
        "amodal": loss(logits.amodal, amodal, weight),
        "visible": loss(logits.visible, visible, weight),
        "occluded": loss(logits.occluded, hidden, None),
    }


def probabilities(logits: MaskLogits) -> tuple[Tensor, Tensor]:
    """Return the amodal and visible probabilities, each [R, m, m]."""
    return torch.sigmoid(logits.amodal), torch.sigmoid(logits.visible)
