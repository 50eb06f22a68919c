"""Box-supervised segmentation: BoxInst's projection and pairwise losses (Tian et al., CVPR 2021).

All is computed at stride 4. The authors' code (AdelaiDet) leaves out pairs in the lowest 10 pixels
of an image, for labels that COCO has there; here none is left out.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.distributed import all_reduce_mean
from training.models.blade.condinst import MASK_STRIDE
from training.models.blade.pixel_pairs import both_ends, log_same

SIMILAR = 0.3
"""Least similarity of two colours that are taken for one object's; tau in the paper."""
COLOUR_SCALE = 2.0


def inside_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Rasterize boxes at stride 4: cells whose centres lie inside, and the one at the centre.

    Args:
        boxes_xyxy: [..., 4] float32, input pixels.
        size_hw: number of cells.

    Returns:
        [..., H, W] bool; at least one cell of every box in the image is marked.
    """
    marked = []
    for axis, length in ((1, size_hw[0]), (0, size_hw[1])):
        cell = torch.arange(length, dtype=boxes_xyxy.dtype, device=boxes_xyxy.device)
        low, high = boxes_xyxy[..., axis, None], boxes_xyxy[..., axis + 2, None]
        centre = (cell + 0.5) * MASK_STRIDE
        middle = ((low + high) / 2 / MASK_STRIDE).floor().clamp(0, length - 1)
        marked.append(((centre >= low) & (centre < high)) | (cell == middle))
    rows, columns = marked
    return rows[..., :, None] & columns[..., None, :]


def mean_of_instances(values: Tensor) -> Tensor:
    """Average [R] over the instances of all processes; 0 where there are none."""
    count = all_reduce_mean(values.new_tensor(float(len(values)))).clamp(min=1.0)
    return values.sum() / count


def projection_loss(logits: Tensor, inside: Tensor) -> Tensor:
    """Projection loss: dice loss of mask and box projected on x and y: [R].

    Args:
        logits: [R, H, W].
        inside: [R, H, W] bool, the box.
    """
    return projected_dice(logits, inside, -1) + projected_dice(logits, inside, -2)


def projected_dice(logits: Tensor, inside: Tensor, axis: int) -> Tensor:
    """Dice loss of the projections along `axis`, 1 - 2 sum(xy) / (sum(x^2) + sum(y^2)): [R]."""
    x, y = logits.amax(axis).sigmoid(), inside.any(axis).to(logits.dtype)
    return 1 - 2 * (x * y).sum(-1) / (x.square().sum(-1) + y.square().sum(-1) + 1e-5)


@torch.no_grad()
def similar_colours(images: Tensor) -> list[Tensor]:
    """Colour similarity of neighbours: exp(-|Lab_i - Lab_j| / 2) >= 0.3.

    Args:
        images: [B, H, W, 3] uint8 RGB.

    Returns:
        For each direction of `pixel_pairs.both_ends`, [B, H', W'] bool at stride 4.
    """
    cells = F.avg_pool2d(images.permute(0, 3, 1, 2).float() / 255, MASK_STRIDE)
    rgb = cells.permute(0, 2, 3, 1).cpu().numpy()
    lab = np.stack([cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2LAB) for x in rgb])
    colours = torch.from_numpy(lab).to(images.device).permute(3, 0, 1, 2)  # [3, B, H, W]
    return [
        torch.exp(-(a - b).square().sum(0).sqrt() / COLOUR_SCALE) >= SIMILAR
        for a, b in both_ends(colours)
    ]


def pairwise_loss(logits: Tensor, inside: Tensor, similar: list[Tensor], image: Tensor) -> Tensor:
    """Pairwise affinity loss: -log P(same label), over similar pairs.

    A pair counts once for each end that is in the box, as BoxInst counts pairs by their first
    pixel.

    Args:
        logits: [R, H, W].
        inside: [R, H, W] bool, the box.
        similar: see `similar_colours`.
        image: [R] int64, which image of the batch.
    """
    total = count = logits.new_zeros(())
    for (a, b), (a_inside, b_inside), alike in zip(both_ends(logits), both_ends(inside), similar):
        weight = (a_inside.to(torch.uint8) + b_inside.to(torch.uint8)) * alike[image]
        counts = weight > 0  # few pairs do: the others are not computed
        weight = weight[counts].to(logits.dtype)
        # `masked_select` has a much faster gradient than indexing.
        loss = -log_same(a.masked_select(counts), b.masked_select(counts))
        total = total + (weight * loss).sum()
        count = count + weight.sum()
    return total / all_reduce_mean(count).clamp(min=1.0)
