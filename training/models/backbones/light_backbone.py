"""Light backbone: a narrow ResNet (He et al., CVPR 2016), trained from scratch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.backbones.conv_norm import conv_norm


class BasicBlock(nn.Module):
    """ResNet's basic block: two 3x3 convolutions and a shortcut.

    Plain convolutions on purpose: on CPUs with wide vectors they run several times nearer to the
    arithmetic peak than depthwise ones, which wait for memory.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, stride=stride)
        self.conv2 = conv_norm(out_channels, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                conv_norm(in_channels, out_channels, size=1),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C', H / stride, W / stride]."""
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + self.shortcut(x))


class LightBackbone(nn.Module):
    """Stem to stride 4, then four stages C2 to C5 at strides 4, 8, 16 and 32."""

    def __init__(
        self, *, stem_width: int, widths: tuple[int, ...], depths: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.channels = widths
        self.stem = nn.Sequential(
            conv_norm(3, stem_width, stride=2),
            nn.ReLU(inplace=True),
            conv_norm(stem_width, widths[0], stride=2),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        channels = widths[0]
        for index, (width, depth) in enumerate(zip(widths, depths)):
            blocks = []
            for block in range(depth):
                stride = 2 if index > 0 and block == 0 else 1
                blocks.append(BasicBlock(channels, width, stride))
                channels = width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised images [B, 3, H, W] to [C2, C3, C4, C5]; H and W divisible by 32."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
