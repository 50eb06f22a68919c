"""Input normalisation by ImageNet's mean and standard deviation, as in torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)
ROUNDED_MEAN_RGB = (123.7, 116.3, 103.5)
ROUNDED_STD_RGB = (58.4, 57.1, 57.4)


class Normalize(nn.Module):
    """Subtract the mean and divide by the deviation of each colour, in the exported graph too.

    Args:
        rounded: to a tenth, as the light models have always been trained; False: torchvision's
            own numbers, which its weights expect.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, rounded: bool = True) -> None:
        super().__init__()
        mean = torch.tensor(ROUNDED_MEAN_RGB if rounded else MEAN_RGB)
        std = torch.tensor(ROUNDED_STD_RGB if rounded else STD_RGB)
        self.register_buffer("mean", mean.view(3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, H, W, 3] uint8 RGB to [B, 3, H, W] float32."""
        return (images.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std
