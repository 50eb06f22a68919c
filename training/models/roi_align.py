"""RoIAlign (He et al., ICCV 2017) as two matrix products: static, exportable, plugin-free.

Bilinear sampling is separable, and so is the mean over a cell's 2 x 2 samples. The value of cell
(r, c) of a box is therefore ``Wy[r] @ F @ Wx[c]``, where row r of ``Wy`` holds the weights of the
map's rows. This equals ``torchvision.ops.roi_align(aligned=True, sampling_ratio=2)``, boxes that
leave the map included.
"""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLES_PER_CELL = 2
CANONICAL_LEVEL = 4
CANONICAL_SIZE_PX = 224


def interpolation_matrix(start: Tensor, end: Tensor, *, cells: int, length: int) -> Tensor:
    """Build the weights with which `cells` equal parts of an interval average a row of values.

    Args:
        start: [...] float32, where the intervals begin; value i of the row covers [i, i + 1).
        end: [...] float32, where they end.
        cells: number of parts of an interval.
        length: number of values in the row.

    Returns:
        [..., cells, length] float32.
    """
    samples = cells * SAMPLES_PER_CELL
    fraction = (torch.arange(samples, dtype=start.dtype, device=start.device) + 0.5) / samples
    # `aligned`: value i sits at coordinate i of the row, half a cell after its left border.
    position = start[..., None] + (end - start)[..., None] * fraction - 0.5  # [..., samples]
    # A sample more than one value outside the row counts as 0, others take the border's value.
    inside = (position >= -1) & (position <= length)
    index = torch.arange(length, dtype=start.dtype, device=start.device)
    distance = (position.clamp(0, length - 1)[..., None] - index).abs()
    weight = (1 - distance).clamp(min=0) * inside[..., None].to(start.dtype)
    grouped = weight.unflatten(-2, (cells, SAMPLES_PER_CELL))  # [..., cells, 2, length]
    return grouped.mean(-2)


def box_matrices(
    boxes_xyxy: Tensor, *, cells: int, size_hw: tuple[int, int], stride: int = 1
) -> tuple[Tensor, Tensor]:
    """Return ``Wy`` [..., cells, H] and ``Wx`` [..., cells, W] of [..., 4] boxes in pixels."""
    x0, y0, x1, y1 = (boxes_xyxy / stride).unbind(-1)
    height, width = size_hw
    return (
        interpolation_matrix(y0, y1, cells=cells, length=height),
        interpolation_matrix(x0, x1, cells=cells, length=width),
    )


def level_of_boxes(boxes_xyxy: Tensor, *, first: int, last: int) -> Tensor:
    """Return the pyramid level of [..., 4] boxes by the rule of the FPN paper, float32."""
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    side = (size[..., 0] * size[..., 1]).clamp(min=1.0).sqrt()
    level = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIZE_PX + 1e-6))
    return level.clamp(first, last)


def roi_align(levels: list[Tensor], boxes_xyxy: Tensor, *, cells: int, first: int = 2) -> Tensor:
    """Pool every box from the pyramid level of its size.

    Args:
        levels: maps [B, C, H_l, W_l], level l at stride 2 ** l, l = first, first + 1, ...
        boxes_xyxy: [B, R, 4] float32, input pixels.
        cells: height and width of the result.
        first: the number of the first level.

    Returns:
        [B, R, C, cells, cells]
    """
    level_of = level_of_boxes(boxes_xyxy, first=first, last=first + len(levels) - 1)
    pooled = None
    for level, features in enumerate(levels, first):
        size_hw = (int(features.shape[2]), int(features.shape[3]))
        Wy, Wx = box_matrices(boxes_xyxy, cells=cells, size_hw=size_hw, stride=2**level)
        # Boxes of other levels get weight 0 here, so that the sum over levels selects.
        Wy = Wy * (level_of == level).to(Wy.dtype)[..., None, None]  # [B, R, cells, H]
        part = _pool(features, Wy, Wx)
        pooled = part if pooled is None else pooled + part
    assert pooled is not None
    return pooled


def _pool(features: Tensor, Wy: Tensor, Wx: Tensor) -> Tensor:
    """Compute ``Wy @ F @ Wx.T`` of every box and channel: [B, R, C, cells, cells]."""
    B, C, H, W = features.shape
    R, cells = Wx.shape[1], Wx.shape[2]
    # The longer side, of an image the width, goes first: what is left to do is then smaller.
    columns = features.permute(0, 3, 2, 1).reshape(B, W, H * C)
    by_column = torch.matmul(Wx.reshape(B, R * cells, W), columns).reshape(B, R, cells, H, C)
    pooled = torch.matmul(Wy[:, :, None], by_column)  # [B, R, x, y, C]
    return pooled.permute(0, 1, 4, 3, 2)


@torch.no_grad()
def crop_masks(masks: Tensor, boxes_xyxy: Tensor, *, cells: int) -> Tensor:
    """Crop one bitmap per box: the mask targets.

    Args:
        masks: [R, H, W] bool or uint8 bitmaps.
        boxes_xyxy: [R, 4] float32, input pixels.
        cells: height and width of a crop.

    Returns:
        [R, cells, cells] float32, exactly 0 or 1: at least half of the cell is covered. Binary
        because the occluded target is "amodal and not visible".
    """
    size_hw = (int(masks.shape[1]), int(masks.shape[2]))
    Wy, Wx = box_matrices(boxes_xyxy, cells=cells, size_hw=size_hw)
    covered = Wy @ masks.to(torch.float32) @ Wx.transpose(1, 2)
    return (covered >= 0.5).to(torch.float32)
