"""Box geometry in PyTorch: area, IoU, GIoU, clipping, tight boxes of masks; xyxy, pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """Return [...] areas of [..., 4] boxes; 0 where a side is negative."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]


def shortest_side(boxes_xyxy: Tensor) -> Tensor:
    """Return [...] the shorter side of [..., 4] boxes."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return torch.minimum(x1 - x0, y1 - y0)


def intersection_and_union(a_xyxy: Tensor, b_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return areas of intersection and union of [..., 4] boxes; leading shapes broadcast."""
    # Coordinate by coordinate: pairs of numbers as last dimension would be several times slower.
    a_x0, a_y0, a_x1, a_y1 = a_xyxy.unbind(-1)
    b_x0, b_y0, b_x1, b_y1 = b_xyxy.unbind(-1)
    width = (torch.minimum(a_x1, b_x1) - torch.maximum(a_x0, b_x0)).clamp(min=0)
    height = (torch.minimum(a_y1, b_y1) - torch.maximum(a_y0, b_y0)).clamp(min=0)
    intersection = width * height
    return intersection, box_area(a_xyxy) + box_area(b_xyxy) - intersection


def box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return the IoU of boxes whose leading shapes broadcast; [N,1,4] and [M,4] give [N,M]."""
    intersection, union = intersection_and_union(a_xyxy, b_xyxy)
    return intersection / union.clamp(min=1e-6)


def generalized_box_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Return GIoU (Rezatofighi et al., CVPR 2019), in [-1, 1]; leading shapes broadcast."""
    intersection, union = intersection_and_union(a_xyxy, b_xyxy)
    hull_size = torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]) - torch.minimum(
        a_xyxy[..., :2], b_xyxy[..., :2]
    )
    hull = (hull_size[..., 0] * hull_size[..., 1]).clamp(min=1e-6)
    return intersection / union.clamp(min=1e-6) - (hull - union) / hull


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Clip boxes [..., 4] to the image."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    height, width = size_hw
    return torch.stack(
        [x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], -1
    )


@torch.no_grad()
def boxes_of_masks(masks: Tensor) -> Tensor:
    """Return the tight boxes [..., 4] xyxy float32 of masks [..., H, W]; 0 where one is empty."""
    low_high = []
    for across in (-2, -1):  # columns that have a pixel give x, rows give y
        used = masks.amax(across).to(torch.float32)  # [..., W] or [..., H]
        length = used.shape[-1]
        low_high.append((used.argmax(-1), length - used.flip(-1).argmax(-1)))
    (x0, x1), (y0, y1) = low_high
    boxes = torch.stack([x0, y0, x1, y1], -1).to(torch.float32)
    return boxes * (masks.flatten(-2).amax(-1) > 0)[..., None]
