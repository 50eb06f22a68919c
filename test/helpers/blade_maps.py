"""Logits, masks and neighbourhoods by which BLADE's losses are worked out pixel by pixel."""

from __future__ import annotations

import itertools
import math

import torch

NEIGHBOURS = [(dy, dx) for dy, dx in itertools.product((-2, 0, 2), repeat=2) if (dy, dx) != (0, 0)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def drawn(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def box_mask(size_hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask
