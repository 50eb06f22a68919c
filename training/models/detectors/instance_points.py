"""Instance points: locations of a one-stage detector from which dynamic heads are generated.

Heads whose parameters are predicted for each instance (CondInst, BLADE) take the detector's
features and coordinates at the point that predicted the instance's box.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from training.models.detector_protocol import Proposals
from training.structures import Batch


class Points(NamedTuple):
    """The L points of all levels of a detector.

    Attributes:
        xy: [L, 2] float32, input pixels.
        stride: [L] float32, of the point's level, pixels.
        features: maps [B, C, H_l, W_l] that the boxes were predicted from; their cells, level by
            level and row by row, are the points.
    """

    xy: Tensor
    stride: Tensor
    features: list[Tensor]


class PointTargets(NamedTuple):
    """Training targets of points: which are positive, their assigned instances and scores.

    Attributes:
        positive: [B, L] bool.
        instance: [B, L] int64, assigned to a positive point; any valid index elsewhere.
        score: [B, L] float32, the detector's own score of the instance's class.
    """

    positive: Tensor
    instance: Tensor
    score: Tensor


class SampledPoints(NamedTuple):
    """S sampled points of every image, at which mask heads are trained.

    Attributes:
        index: [B, S] int64, into the L points.
        instance: [B, S] int64, the ground-truth instances they are assigned to.
        valid: [B, S] bool; where an image has fewer points, the rest is not valid.
    """

    index: Tensor  # type: ignore[assignment]  # a tuple has a method index()
    instance: Tensor
    valid: Tensor


@runtime_checkable
class PointDetector(Protocol):
    """A one-stage detector that gives the point of every box, for CondInst's dynamic heads."""

    def detect_points(
        self, levels: list[Tensor], size_hw: tuple[int, int]
    ) -> tuple[Proposals, Points]:
        """Detect objects; `Proposals.index` [B, N] is an index into the points."""
        ...

    def loss_and_points(
        self, levels: list[Tensor], batch: Batch
    ) -> tuple[dict[str, Tensor], Points, PointTargets]:
        """Return the weighted terms of the detector's loss, and which points to train heads on."""
        ...


def grid_points(features: Tensor, stride: int) -> Tensor:
    """Return the centres of a map's cells, [H * W, 2] xy float32 input pixels, row by row."""
    height, width = int(features.shape[2]), int(features.shape[3])
    y = (torch.arange(height, dtype=torch.float32, device=features.device) + 0.5) * stride
    x = (torch.arange(width, dtype=torch.float32, device=features.device) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


@torch.no_grad()
def sample_points(targets: PointTargets, *, count: int) -> SampledPoints:
    """Sample the points that mask heads are trained on, shared evenly by an image's instances.

    All instances get their best point, then all that have one their second best, and so on until
    `count` is reached. (CondInst gives each of n instances count / n points and leaves what some
    do not use; here the others get it.)

    Args:
        targets: of all points.
        count: points of an image.
    """
    B = len(targets.positive)
    index = torch.zeros(B, count, dtype=torch.int64, device=targets.positive.device)
    valid = torch.zeros_like(index, dtype=torch.bool)
    for b in range(B):
        points = torch.nonzero(targets.positive[b])[:, 0]
        points = points[targets.score[b, points].argsort(descending=True, stable=True)]
        instance = targets.instance[b, points]
        same = instance[:, None] == instance
        rank = same.tril(diagonal=-1).sum(1)  # better points of the same instance
        points = points[rank.argsort(stable=True)][:count]
        index[b, : len(points)] = points
        valid[b, : len(points)] = True
    return SampledPoints(index, targets.instance.gather(1, index), valid)
