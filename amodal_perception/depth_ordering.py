"""Which of two objects is nearer where they meet in the image, from registered depth.

Along the common border of two visible masks, pixels a few apart on either side are compared, along
rows and columns: each such pair votes for the nearer object where the depth differs by more than a
sensor's noise. More
votes than half say the same as the median of the differences does, without sorting them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, FloatArray, Instances, IntArray

CONFIDENCE_WEIGHTS = (-0.484, 1.676, 0.669)
"""Of 1, of the masks' share and of the depth's advantage; see `edge_confidence`."""


@dataclass(frozen=True)
class DepthOrderingConfig:
    """When depth counts as an occlusion.

    Attributes:
        border_px: how far apart the compared pixels are.
        min_step_m: least difference of their depth that is no noise, metres.
        min_votes: fewest comparisons along a border that say anything.
        min_overlap_px: fewest pixels of the nearer object inside the hidden part of the other.
            Objects that only touch in the image differ in depth too, and hide nothing.
    """

    border_px: int = 4
    min_step_m: float = 0.005
    min_votes: int = 16
    min_overlap_px: int = 2


DEPTH_CONFIG = DepthOrderingConfig()
"""The thresholds that the confidence was fitted with."""


@dataclass(frozen=True, eq=False)
class BorderDepth:
    """What depth says of every pair of objects, [N, N] each.

    Attributes:
        nearer_share: float64, the share of the comparisons in which i is nearer than j.
        is_known: bool, symmetric, whether there are enough comparisons.
        is_nearer: bool, whether i is nearer than j in most of enough comparisons.
    """

    nearer_share: NDArray[np.float64]
    is_known: BoolArray
    is_nearer: BoolArray


def border_depth(
    instances: Instances, depth_m: FloatArray, config: DepthOrderingConfig = DEPTH_CONFIG
) -> BorderDepth:
    """Tell for every pair which object is nearer along their common border.

    Args:
        instances: with visible masks that do not overlap.
        depth_m: [H, W] float32, metres along the optical axis, aligned with the image; NaN where
            unknown.
        config: thresholds.

    Raises:
        ValueError: the depth image has another size than the masks.
    """
    if depth_m.shape != instances.size_hw:
        raise ValueError(f"depth is {depth_m.shape}, but the image {instances.size_hw}")
    nearer_votes, votes = border_votes(instances, depth_m, config)
    share = nearer_votes / np.maximum(votes, 1)
    is_known = votes >= max(config.min_votes, 1)
    return BorderDepth(share, is_known, is_known & (share > 0.5))


def edge_confidence(overlap_share: NDArray, depth: BorderDepth) -> NDArray[np.float64]:
    """Estimate the probability that i hides j, two objects that are there.

    A logistic model of the masks' and the depth's evidence, fitted to simulated scenes with the
    noise of a depth sensor (``training.studies.depth_ordering``).

    Args:
        overlap_share: [N, N], see `ordering.OrderingConfig.min_overlap_share`.
        depth: of the same pairs.

    Returns:
        [N, N] in [0, 1]; it means something only where `depth.is_known`.
    """
    advantage = depth.nearer_share - depth.nearer_share.T
    bias, of_share, of_advantage = CONFIDENCE_WEIGHTS
    return 1 / (1 + np.exp(-(bias + of_share * overlap_share + of_advantage * advantage)))


def border_votes(
    instances: Instances, depth_m: FloatArray, config: DepthOrderingConfig
) -> tuple[IntArray, IntArray]:
    """Compare the depth on both sides of every common border; see `border_depth`.

    Returns:
        nearer_votes: [N, N] int32; entry (i, j) counts the pixel pairs where i is nearer.
        votes: [N, N] int32, symmetric; the pairs of pixels of i and j whose depth is known.
    """
    n = len(instances)
    shape = n, n
    if n < 2:
        return np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    x0, y0 = instances.windows_xyxy[:, :2].min(axis=0).tolist()
    x1, y1 = instances.windows_xyxy[:, 2:].max(axis=0).tolist()
    apart_px = config.border_px
    # Background at the side and below, so that a flat step never leads to the next row's objects.
    stride = x1 - x0 + apart_px
    labels = np.zeros((y1 - y0 + apart_px, stride), np.uint8 if n < 256 else np.uint16)
    for i, (left, top, right, bottom) in enumerate(instances.windows_xyxy.tolist()):
        window = labels[top - y0 : bottom - y0, left - x0 : right - x0]
        np.copyto(window, i + 1, where=instances.visible_crops[i])
    flat = labels.ravel()
    first, second = _pixel_pairs(flat, stride, apart_px)
    z = depth_m[y0:y1, x0:x1]
    step_m = _at(z, second, stride) - _at(z, first, stride)
    # 0: unknown, 1: level, 2: the first is nearer, 3: the second is.
    said = np.isfinite(step_m).astype(np.int32)
    said += step_m > config.min_step_m
    said += (step_m < -config.min_step_m) * np.int32(2)
    pair = (flat[first].astype(np.int32) - 1) * n + (flat[second] - 1)
    counts = np.bincount(pair * 4 + said, minlength=4 * n * n).reshape(n, n, 4)
    _, level, first_nearer, second_nearer = np.moveaxis(counts, -1, 0)
    votes = level + first_nearer + second_nearer
    nearer_votes = first_nearer + second_nearer.T
    return nearer_votes.astype(np.int32), (votes + votes.T).astype(np.int32)


def _pixel_pairs(labels: NDArray, stride: int, apart_px: int) -> tuple[NDArray, NDArray]:
    """Find pairs of pixels of two objects, side by side and one below the other.

    Args:
        labels: [P] of the pixels, row by row; 0 for none.
        stride: pixels in a row.
        apart_px: how far apart they are.

    Returns:
        [K] and [K] indices of pixels.
    """
    is_object = labels != 0
    firsts, seconds = [], []
    for step in (apart_px, apart_px * stride):
        differs = labels[:-step] != labels[step:]
        differs &= is_object[:-step]
        differs &= is_object[step:]
        firsts.append(np.flatnonzero(differs).astype(np.int32))
        seconds.append(firsts[-1] + np.int32(step))
    return np.concatenate(firsts), np.concatenate(seconds)


def _at(image: NDArray, indices: NDArray, stride: int) -> NDArray:
    """Take pixels by their indices in an image with rows of `stride` pixels."""
    rows = indices // np.int32(stride)
    return image[rows, indices - rows * np.int32(stride)]
