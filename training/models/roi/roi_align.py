"""RoIAlign (He et al., ICCV 2017), 2 x 2 samples a cell; for mask targets adaptive.

`RoiPooler.__call__` is static, exportable and plugin-free: a cell of a box is the weighted mean of
4 x 4 rows of features, which are gathered from all levels at once. `RoiPooler.of_rois` does the
same with torchvision's kernel, which is faster where gradients are needed. Both equal
``torchvision.ops.roi_align(sampling_ratio=2)`` to rounding, boxes that leave the map included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from training.models.detector_protocol import Rois

SAMPLES_PER_CELL = 2
ADAPTIVE_SAMPLING = 0
"""For bitmaps: about one sample a pixel, as Detectron2 samples mask targets. Two samples a cell
would miss most pixels of a large RoI, and thin parts with them."""
CANONICAL_LEVEL = 4
CANONICAL_SIZE_PX = 224


def level_of_boxes(boxes_xyxy: Tensor, *, first: int, last: int) -> Tensor:
    """Assign [..., 4] boxes to pyramid levels, float32 (Lin et al., CVPR 2017, equation 1)."""
    size = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    side = (size[..., 0] * size[..., 1]).clamp(min=1.0).sqrt()
    level = torch.floor(CANONICAL_LEVEL + torch.log2(side / CANONICAL_SIZE_PX + 1e-6))
    return level.clamp(first, last)


@dataclass(frozen=True)
class RoiPooler:
    """Pools every box from the pyramid level of its size.

    Attributes:
        first: number of the pyramid's first map, at stride 2 ** first.
        count: how many of the maps are pooled from.
        aligned: a cell's centre lies half a cell after its border, as in Detectron2; False: on the
            border, and boxes are at least a cell wide, as in torchvision's detectors.
    """

    first: int
    count: int
    aligned: bool = True

    def __call__(self, levels: list[Tensor], boxes_xyxy: Tensor, *, cells: int) -> Tensor:
        """Pool equally many boxes of every image.

        Args:
            levels: maps [B, C, H_l, W_l], from level `first` on.
            boxes_xyxy: [B, N, 4] float32, input pixels.
            cells: height and width of the result.

        Returns:
            [B * N, C, cells, cells]
        """
        levels = levels[: self.count]
        channels = int(levels[0].shape[1])
        rows = torch.cat([maps.flatten(2) for maps in levels], 2).transpose(1, 2)  # [B, L, C]
        # What depends on the level of a box, selected by a sum with one weight of 1.
        table = _level_table(levels, self.first, boxes_xyxy.device)  # [levels, 4]
        number = torch.arange(self.first, self.first + self.count, device=boxes_xyxy.device)
        level = level_of_boxes(boxes_xyxy, first=self.first, last=self.first + self.count - 1)
        chosen = (level[..., None] == number.to(level.dtype)).to(level.dtype)
        stride, height, width, start = torch.matmul(chosen, table).unbind(-1)  # [B, N] each

        x0, y0, x1, y1 = (boxes_xyxy / stride[..., None]).unbind(-1)
        y, y_weight = _taps(y0, y1, height, cells, aligned=self.aligned)  # [B, N, cells, 4]
        x, x_weight = _taps(x0, x1, width, cells, aligned=self.aligned)
        row = start[..., None, None] + y * width[..., None, None]  # [B, N, cells, 4]
        index = row[:, :, :, None, :, None] + x[:, :, None, :, None, :]
        weight = y_weight[:, :, :, None, :, None] * x_weight[:, :, None, :, None, :]
        B, L = int(rows.shape[0]), int(rows.shape[1])
        if B > 1:
            offset = torch.arange(B, device=rows.device) * L
            index = index + offset.to(index.dtype).view(B, 1, 1, 1, 1, 1)
        # `index_select` becomes one ONNX node; brackets would become two, the second a copy.
        flat_index = index.to(torch.int64).reshape(-1)
        gathered = rows.reshape(B * L, channels).index_select(0, flat_index)
        taps = weight.reshape(-1, 1, 16).to(rows.dtype)
        pooled = torch.matmul(taps, gathered.reshape(-1, 16, channels))  # [B * N * cells^2, 1, C]
        N = int(boxes_xyxy.shape[1])
        return pooled.reshape(B * N, cells, cells, channels).permute(0, 3, 1, 2)

    def of_rois(self, levels: list[Tensor], rois: Rois, *, cells: int) -> Tensor:
        """Pool the RoIs of a batch, with gradients: [R, C, cells, cells]."""
        boxes = torch.cat([rois.image[:, None].to(torch.float32), rois.boxes_xyxy], 1)
        last = self.first + self.count - 1
        level_of = level_of_boxes(rois.boxes_xyxy, first=self.first, last=last)
        shape = (len(boxes), levels[0].shape[1], cells, cells)
        # Autocast leaves torchvision's kernel in 32 bits, which pooling positions need.
        pooled = torch.zeros(shape, dtype=torch.float32, device=boxes.device)
        for level, maps in enumerate(levels[: self.count], self.first):
            chosen = torch.nonzero(level_of == level)[:, 0]
            part = torchvision.ops.roi_align(
                maps.float(),
                boxes[chosen],
                cells,
                0.5**level,
                SAMPLES_PER_CELL,
                aligned=self.aligned,
            )
            pooled = pooled.index_put((chosen,), part)
        return pooled


def _level_table(levels: list[Tensor], first: int, device: torch.device) -> Tensor:
    """Return stride, height, width and the first row of every map, [levels, 4] float32.

    Row numbers stay exact in float32 up to 16 million cells.
    """
    table, start = [], 0
    for number, maps in enumerate(levels, first):
        height, width = int(maps.shape[2]), int(maps.shape[3])
        table.append([2.0**number, float(height), float(width), float(start)])
        start += height * width
    return torch.tensor(table, device=device)


def _taps(
    start: Tensor, end: Tensor, length: Tensor, cells: int, *, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Return where along one axis the values of a cell's mean lie, and their weights.

    Args:
        start: [...] where the intervals begin; value i of the axis covers [i, i + 1).
        end: [...] where they end.
        length: [...] number of values.
        cells: number of parts of an interval.
        aligned: see `RoiPooler`.

    Returns:
        Indices and weights, each [..., cells, 4] float32: 2 samples a cell, 2 values a sample.
    """
    samples = cells * SAMPLES_PER_CELL
    fraction = (torch.arange(samples, dtype=start.dtype, device=start.device) + 0.5) / samples
    if aligned:
        # Value i sits at coordinate i of the axis, half a cell after its left border.
        position = start[..., None] + (end - start)[..., None] * fraction - 0.5
    else:
        position = start[..., None] + (end - start).clamp(min=1.0)[..., None] * fraction
    last = (length - 1)[..., None]
    # A sample more than one value outside the axis counts as 0, others take the border's value.
    inside = ((position >= -1) & (position <= last + 1)).to(start.dtype)
    position = torch.minimum(position.clamp(min=0), last)
    low = position.floor()
    share = position - low
    index = torch.stack([low, torch.minimum(low + 1, last)], -1)
    weight = torch.stack([1 - share, share], -1) * (inside / SAMPLES_PER_CELL)[..., None]
    shape = (cells, SAMPLES_PER_CELL)
    return index.unflatten(-2, shape).flatten(-2), weight.unflatten(-2, shape).flatten(-2)


@torch.no_grad()
def crop_masks(masks: Tensor, rois: Rois, *, cells: int) -> Tensor:
    """Mask targets: crop the bitmap of every RoI's instance by RoIAlign.

    Args:
        masks: [B, M, H, W] bool or uint8 bitmaps.
        rois: R boxes.
        cells: height and width of a crop.

    Returns:
        [R, cells, cells] float32, exactly 0 or 1: at least half of the cell is covered. Binary
        because the occluded target is "amodal and not visible".
    """
    image, M, height, width = rois.image, *masks.shape[1:]
    used, position = torch.unique(image * M + rois.instance, return_inverse=True)
    bitmaps = masks.reshape(-1, 1, height, width)[used].to(torch.float32)
    boxes = torch.cat([position[:, None].to(torch.float32), rois.boxes_xyxy], 1)
    covered = torchvision.ops.roi_align(
        bitmaps, boxes, cells, 1.0, ADAPTIVE_SAMPLING, aligned=True
    )
    return (covered[:, 0] >= 0.5).to(torch.float32)
