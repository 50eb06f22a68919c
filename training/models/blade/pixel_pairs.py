"""Pixel-pair affinities (BoxInst): log-probability that two neighbours have the same label.

An undirected edge is counted once: 4 of the 8 directions cover all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS_YX = ((0, 1), (1, 0), (1, 1), (1, -1))
DILATION = 2
"""Pixels between the ends, plus one: BoxInst's neighbours, and BLADE's "one-pixel gap"."""


def both_ends(maps: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each direction, the values at both ends of all pairs inside the image.

    Args:
        maps: [..., H, W].

    Yields:
        Two views [..., H', W']; pair (y, x) is the same in all maps of one size. No pair leaves
        the image.
    """
    for dy, dx in DIRECTIONS_YX:
        dy, dx = dy * DILATION, dx * DILATION
        height, width = int(maps.shape[-2]) - dy, int(maps.shape[-1]) - abs(dx)
        height, width = max(height, 0), max(width, 0)
        x0, x1 = max(0, -dx), max(0, dx)
        yield (
            maps[..., :height, x0 : x0 + width],
            maps[..., dy : dy + height, x1 : x1 + width],
        )


def log_same(a: Tensor, b: Tensor) -> Tensor:
    """Return log(p_a p_b + (1 - p_a)(1 - p_b)) of logits; exact where p is 0 or 1 in float32.

    With p = e^a / (1 + e^a), the sum is (e^(a + b) + 1) / ((1 + e^a)(1 + e^b)).
    """
    return F.softplus(a + b) - F.softplus(a) - F.softplus(b)


def log_different(a: Tensor, b: Tensor) -> Tensor:
    """Return log(p_a (1 - p_b) + (1 - p_a) p_b) of logits, likewise."""
    return torch.logaddexp(a, b) - F.softplus(a) - F.softplus(b)
