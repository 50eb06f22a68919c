"""Feature pyramid network, FPN (Lin et al., CVPR 2017)."""

from __future__ import annotations

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from training.models.backbones.conv_norm import conv_norm


class LightPyramid(nn.Module):
    """Light FPN: lateral 1x1 convolutions, a top-down path, 3x3 convolutions on P3 to P5.

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


class StandardPyramid(nn.Module):
    """FPN as published: lateral and 3x3 convolutions with bias, no normalisation.

    Args:
        in_channels: of C2 to C5.
        channels: of the result.
        extra: ``pool`` gives [P2, ..., P6], P6 by subsampling P5, as Faster R-CNN reads it;
            ``convs`` gives [P3, ..., P7], P6 and P7 by convolutions on P5, as FCOS reads it.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, extra: str) -> None:
        super().__init__()
        pool = extra == "pool"
        self.skipped = 0 if pool else 1
        self.pyramid = torchvision.ops.FeaturePyramidNetwork(
            list(in_channels[self.skipped :]),
            channels,
            extra_blocks=LastLevelMaxPool() if pool else LastLevelP6P7(channels, channels),
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map [C2, ..., C5] to the levels, all with the same number of channels."""
        named = {str(i): x for i, x in enumerate(maps[self.skipped :])}
        return list(self.pyramid(named).values())
