"""Detector protocol: `detect` returns `Proposals`, `loss_and_rois` losses and `Rois`.

Implemented by `training.models.detectors.light_detector`, `fcos` and `faster_rcnn`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from training.structures import Batch, Detections


class Proposals(NamedTuple):
    """Detected boxes, N an image, best first, padded with score 0.

    Attributes:
        boxes_xyxy: [B, N, 4] float32, input pixels, inside the image.
        scores: [B, N] float32, descending.
        labels: [B, N] int64.
        index: [B, N] int64, which of the detector's points (one-stage) or proposals (two-stage)
            made the box: what else it predicts for that box can be gathered by it.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method index()


class Rois(NamedTuple):
    """Regions of interest on which heads are trained, R in all images together.

    Attributes:
        boxes_xyxy: [R, 4] float32, input pixels.
        image: [R] int64, which image of the batch.
        instance: [R] int64, the ground-truth instance that the box is assigned to.
    """

    boxes_xyxy: Tensor
    image: Tensor
    instance: Tensor

    def labels(self, batch: Batch) -> Tensor:
        """Return the true classes, [R] int64."""
        return batch.labels[self.image, self.instance]


class Detector(Protocol):
    """Protocol of object detectors on a feature pyramid."""

    def detect(self, levels: list[Tensor], size_hw: tuple[int, int]) -> Proposals:
        """Detect objects, by operations of static shape only (exportable).

        Args:
            levels: all maps [B, C, H_l, W_l] of the pyramid that belongs to the detector.
            size_hw: of the input image, pixels.
        """
        ...

    def loss_and_rois(
        self, levels: list[Tensor], batch: Batch, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Rois]:
        """Return the weighted terms of the detector's loss, and RoIs to train other heads on."""
        ...


def concatenate_rois(rois: list[tuple[Tensor, Tensor]]) -> Rois:
    """Concatenate the RoIs of the images, each given as boxes [n, 4] and instances [n]."""
    boxes = torch.cat([b for b, _ in rois])
    image = torch.cat([torch.full_like(i, number) for number, (_, i) in enumerate(rois)])
    return Rois(boxes, image, torch.cat([i for _, i in rois]))


def image_size_hw(images: Tensor) -> tuple[int, int]:
    """Return height and width of [B, H, W, 3] images."""
    return int(images.shape[1]), int(images.shape[2])


def with_masks(
    proposals: Proposals,
    *,
    amodal: Tensor,
    visible: Tensor,
    occluder: Tensor | None = None,
    occluded: Tensor | None = None,
) -> Detections:
    """Build detections from proposals and the probabilities of their masks, each [B * N, m, m]."""
    shape = proposals.scores.shape  # [B, N]
    return Detections(
        proposals.boxes_xyxy,
        proposals.scores,
        proposals.labels,
        amodal.unflatten(0, shape),
        visible.unflatten(0, shape),
        None if occluder is None else occluder.unflatten(0, shape),
        None if occluded is None else occluded.unflatten(0, shape),
    )
