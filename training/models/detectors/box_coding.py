"""Box coding: boxes as R-CNN regression deltas relative to anchors or proposals, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Largest growth of a side that a delta may ask for, as in Detectron."""


def encode_boxes(boxes_xyxy: Tensor, reference_xyxy: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Encode boxes as R-CNN's regression deltas (Girshick et al., CVPR 2014, appendix C).

    Args:
        boxes_xyxy: what to express.
        reference_xyxy: anchors or proposals.
        weights: of the shifts in x and y and of the logarithms of width and height.

    Returns:
        [..., 4] shifts in units of the reference's size and log ratios of sizes, weighted.
    """
    size, centre = _size_and_centre(boxes_xyxy)
    reference_size, reference_centre = _size_and_centre(reference_xyxy)
    shift = (centre - reference_centre) / reference_size
    scale = torch.log(size / reference_size)
    return torch.cat([shift, scale], -1) * boxes_xyxy.new_tensor(weights)


def decode_boxes(deltas: Tensor, reference_xyxy: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Decode regression deltas to boxes, [..., 4] xyxy: the inverse of `encode_boxes`."""
    shift, scale = (deltas / deltas.new_tensor(weights)).split(2, dim=-1)
    reference_size, reference_centre = _size_and_centre(reference_xyxy)
    centre = reference_centre + shift * reference_size
    half = reference_size * scale.clamp(max=MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def _size_and_centre(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy.split(2, dim=-1)
    size = (high - low).clamp(min=1e-3)
    return size, low + size / 2
