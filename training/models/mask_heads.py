"""ORCNN's mask heads (Follmann et al., WACV 2019): amodal, visible, and occluded by subtraction."""

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
    """3x3 convolutions, a 2x2 deconvolution that doubles the size, and a 1x1 convolution.

    ORCNN has four convolutions of 256 channels; the light model takes fewer and narrower ones and
    adds batch normalisation, because it starts from scratch.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [conv_norm(in_channels, width), nn.ReLU(inplace=True)]
            in_channels = width
        self.convs = nn.Sequential(*layers)
        self.upsample = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.logits = nn.Conv2d(in_channels, 1, 1)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.upsample.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, roi_features: Tensor) -> Tensor:
        """Map [R, C, 14, 14] to logits [R, 28, 28]."""
        return self.logits(F.relu(self.upsample(self.convs(roi_features))))[:, 0]


class OcclusionMaskHeads(nn.Module):
    """Two unshared heads on the same RoI features; the occluded mask is their difference."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.amodal = MaskHead(in_channels, widths)
        self.visible = MaskHead(in_channels, widths)

    def forward(self, roi_features: Tensor) -> MaskLogits:
        """Predict the three masks of every RoI from [R, C, 14, 14]."""
        z_A = self.amodal(roi_features).float()
        z_V = self.visible(roi_features).float()
        # Without the ReLU a confident "not visible" would turn background into "occluded".
        return MaskLogits(z_A, z_V, z_A - F.relu(z_V))


def mask_losses(logits: MaskLogits, amodal: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Return L_A, L_V and L_IV, each a mean binary cross-entropy over the grids.

    Args:
        logits: of R >= 0 RoIs.
        amodal: [R, m, m] float32, 0 or 1.
        visible: [R, m, m] float32, 0 or 1, a subset of amodal.
    """
    targets = {"amodal": amodal, "visible": visible, "occluded": amodal * (1 - visible)}
    losses = {}
    for (name, target), z in zip(targets.items(), logits):
        total = F.binary_cross_entropy_with_logits(z, target, reduction="sum")
        losses[name] = total / max(target.numel(), 1)
    return losses


def probabilities(logits: MaskLogits) -> tuple[Tensor, Tensor]:
    """Return the amodal and visible probabilities, each [R, m, m]."""
    return torch.sigmoid(logits.amodal), torch.sigmoid(logits.visible)
