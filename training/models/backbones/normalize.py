"""Input normalisation by ImageNet's mean and standard deviation, as in torchvision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN_RGB = (123.7, 116.3, 103.5)
STD_RGB = (58.4, 57.1, 57.4)


class Normalize(nn.Module):
    """Subtract the mean and divide by the deviation of each colour, in the exported graph too."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD_RGB).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, H, W, 3] uint8 RGB to [B, 3, H, W] float32."""
        return (images.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std
