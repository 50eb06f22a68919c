"""ResNet and MobileNetV3 backbones with torchvision's layer names, so that its weights fit."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

NORM_EPS = 1e-5


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics, scale and shift, as Detectron fine-tunes.

    torchvision's own multiplies and adds instead; this one stays one operator in an exported file.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class ResNet(nn.Module):
    """ResNet (He et al., CVPR 2016): C2 to C5 at strides 4, 8, 16 and 32.

    Args:
        depth: 18, 50 or 101.
        frozen_norm: fix all normalisation.
        frozen_stages: how many of the stem and the four stages do not learn, from the image on.
        eps: added to the variance in normalisation.
    """

    def __init__(
        self, depth: int, *, frozen_norm: bool, frozen_stages: int, eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        net = torchvision.models.get_model(
            f"resnet{depth}", weights=None, norm_layer=_norm(frozen_norm, eps=eps)
        )
        self.conv1, self.bn1, self.maxpool = net.conv1, net.bn1, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4
        expansion = 1 if depth < 50 else 4
        self.channels = tuple(expansion * width for width in (64, 128, 256, 512))
        stem = nn.ModuleList([self.conv1, self.bn1])
        _freeze([stem, self.layer1, self.layer2, self.layer3, self.layer4][:frozen_stages])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised images [B, 3, H, W] to [C2, C3, C4, C5]; H and W divisible by 32."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class MobileNet(nn.Module):
    """MobileNetV3-Large (Howard et al., ICCV 2019): C2 to C5 at strides 4, 8, 16 and 32."""

    channels = (24, 40, 112, 960)
    ends = (4, 7, 13, 17)
    """Where, among torchvision's `features`, a stage ends."""

    def __init__(self, *, frozen_norm: bool, frozen_stages: int) -> None:
        super().__init__()
        net = torchvision.models.mobilenet_v3_large(
            weights=None, norm_layer=_norm(frozen_norm, eps=0.001)
        )
        self.features = net.features
        limits = (0, 2, *self.ends)  # the stem is a convolution and a block
        stages = [self.features[a:b] for a, b in itertools.pairwise(limits)]
        _freeze(stages[:frozen_stages])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised images [B, 3, H, W] to [C2, C3, C4, C5]; H and W divisible by 32."""
        maps, start = [], 0
        for end in self.ends:
            x = self.features[start:end](x)
            maps.append(x)
            start = end
        return maps


def _norm(frozen: bool, *, eps: float) -> Any:
    return partial(FrozenBatchNorm if frozen else nn.BatchNorm2d, eps=eps)


def _freeze(stages: list[nn.Module]) -> None:
    for stage in stages:
        stage.requires_grad_(False)
