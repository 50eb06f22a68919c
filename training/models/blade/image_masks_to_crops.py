"""Convert image-sized masks to boxes and mask crops inside them, exportable (static shapes)."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of_image_masks(probability: Tensor, fallback_xyxy: Tensor, *, stride: int) -> Tensor:
    """Return the tight boxes of masks, between cells by linear interpolation.

    Args:
        probability: [B, N, H, W]; at least 0.5 is the mask.
        fallback_xyxy: [B, N, 4] pixels, for masks without a cell.
        stride: of the maps, pixels.

    Returns:
        [B, N, 4] float32 xyxy, pixels, inside the image.
    """
    ends = []
    for axis in (-2, -1):  # the largest of each column, then of each row
        profile = probability.amax(axis)
        ends += [_first_begin(profile), _last_end(profile)]
    x0, x1, y0, y1 = ends
    found = (x1 > 0).to(x1.dtype)[..., None]
    boxes = torch.stack([x0, y0, x1, y1], -1) * stride
    return boxes * found + fallback_xyxy * (1 - found)


def _first_begin(profile: Tensor) -> Tensor:
    """Return where values of at least 0.5 begin along the last axis of [..., L], in cells."""
    length = int(profile.shape[-1])
    order = torch.arange(length - 1, -1, -1, device=profile.device)
    return length - _last_end(profile.index_select(-1, order))


def _last_end(profile: Tensor) -> Tensor:
    """Return where values of at least 0.5 end along the last axis of [..., L], in cells.

    Values sit in the middle of cells; the border's goes on behind it.
    """
    length = int(profile.shape[-1])
    after = torch.cat([profile[..., 1:], profile[..., -1:]], -1)
    way = ((profile - 0.5) / (profile - after).clamp(min=1e-6)).clamp(0, 1)
    cell = torch.arange(length, dtype=profile.dtype, device=profile.device)
    return ((cell + 0.5 + way) * (profile >= 0.5).to(profile.dtype)).amax(-1).clamp(max=length)


def crop_image_masks(maps: Tensor, boxes_xyxy: Tensor, *, stride: int, cells: int) -> Tensor:
    """Resample maps inside boxes, bilinearly, one sample a cell.

    Args:
        maps: [B, N, H, W].
        boxes_xyxy: [B, N, 4] pixels.
        stride: of the maps, pixels.
        cells: height and width of a crop.

    Returns:
        [B * N, cells, cells]; beyond the outermost values the border's holds.
    """
    height, width = int(maps.shape[-2]), int(maps.shape[-1])
    x0, y0, x1, y1 = (boxes_xyxy / stride).unbind(-1)
    rows, columns = _weights(y0, y1, height, cells), _weights(x0, x1, width, cells)
    # A bilinear sample is a product in y and one in x: two matrix products, no gathering.
    return torch.matmul(torch.matmul(rows, maps), columns.transpose(-1, -2)).flatten(0, 1)


def _weights(start: Tensor, end: Tensor, length: int, cells: int) -> Tensor:
    """Return what each value adds to the samples of intervals: [..., cells, length]."""
    part = (torch.arange(cells, dtype=start.dtype, device=start.device) + 0.5) / cells
    place = start[..., None] + (end - start)[..., None] * part - 0.5
    value = torch.arange(length, dtype=start.dtype, device=start.device)
    return (1 - (place.clamp(0, length - 1)[..., None] - value).abs()).clamp(min=0)
