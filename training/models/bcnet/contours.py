"""Boundary targets: contours of binary mask crops (BCNet, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def contours(masks: Tensor) -> Tensor:
    """Contour targets: cells on either side of a mask's border, dilation xor erosion.

    Both with a cross of 3 x 3 cells, once; the band is 2 cells wide, one outside and one inside.
    What lies outside the crop counts as background for the dilation and as foreground for the
    erosion, so there is no contour where only the crop ends (as in the released code).

    Args:
        masks: [R, m, m] float32, 0 or 1.

    Returns:
        [R, m, m] float32, 0 or 1.
    """
    return _dilate(masks) + _dilate(1 - masks) - 1  # foreground is near, and so is background


def _dilate(masks: Tensor) -> Tensor:
    # Max pooling pads with minus infinity: what is outside never wins.
    images = masks[:, None]
    across = F.max_pool2d(images, (1, 3), stride=1, padding=(0, 1))
    down = F.max_pool2d(images, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(across, down)[:, 0]
