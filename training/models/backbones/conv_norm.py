"""Convolution with batch normalisation, the layer of all light networks."""

from __future__ import annotations

from torch import nn


def conv_norm(in_channels: int, out_channels: int, *, stride: int = 1, size: int = 3) -> nn.Module:
    """Build a convolution followed by batch normalisation, which export folds into it."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )
