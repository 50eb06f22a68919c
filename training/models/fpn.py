"""Feature pyramid (Lin et al., CVPR 2017): every level gets the context of the coarser ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.backbone import conv_norm


class FeaturePyramid(nn.Module):
    """Lateral 1x1 convolutions, a top-down path, and a 3x3 convolution on P3 to P5.

    P2 has no 3x3 convolution: it would cost as much as a whole backbone stage, and only the mask
    heads read P2, through RoIAlign, which smooths it anyway.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(conv_norm(c, channels, size=1) for c in in_channels)
        self.smooth = nn.ModuleList(conv_norm(channels, channels) for _ in in_channels[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map [C2, ..., C5] to [P2, ..., P5], all with the same number of channels."""
        laterals = [lateral(x) for lateral, x in zip(self.laterals, maps)]
        for fine in range(len(laterals) - 2, -1, -1):
            coarse = F.interpolate(laterals[fine + 1], scale_factor=2.0, mode="nearest")
            laterals[fine] = laterals[fine] + coarse
        smoothed = [F.relu(smooth(x)) for smooth, x in zip(self.smooth, laterals[1:])]
        return [F.relu(laterals[0]), *smoothed]
