"""Training batch (images and ground truth) and detections, the network's output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Images and truth, M instances each, padded.

    Attributes:
        images: [B, H, W, 3] uint8 RGB.
        boxes_xyxy: [B, M, 4] float32, amodal, input pixels.
        valid: [B, M] bool, False for padding.
        labels: [B, M] int64, index into the class names; 0 for padding.
        amodal: [B, M, H, W] uint8, 0 or 1.
        visible: [B, M, H, W] uint8, 0 or 1, a subset of amodal.
        ids: [B, M] int64, of the annotations, -1 for padding; None: not known.
    """

    images: Tensor
    boxes_xyxy: Tensor
    valid: Tensor
    labels: Tensor
    amodal: Tensor
    visible: Tensor
    ids: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Copy to a device, asynchronously from pinned memory."""
        return Batch(
            **{
                name: values.to(device, non_blocking=True)
                for name, values in self._asdict().items()
                if values is not None
            }
        )


class Detections(NamedTuple):
    """Output of every network: N instances an image, by descending score, padded with score 0.

    Attributes:
        boxes: [B, N, 4] float32 xyxy, amodal, input pixels, inside the image.
        scores: [B, N] float32, descending.
        labels: [B, N] int64.
        amodal: [B, N, m, m] float32 probabilities inside the box.
        visible: [B, N, m, m] float32 probabilities inside the box.
        occluder: [B, N, m, m] float32 probabilities inside the box of what hides the object, or
            None where the system does not predict it.
        occluded: [B, N, m, m] float32 probabilities inside the box of the hidden part, where the
            system has a mask of its own for it (ORCNN), else None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    amodal: Tensor
    visible: Tensor
    occluder: Tensor | None = None
    occluded: Tensor | None = None

    def of_image(self, number: int) -> dict[str, Tensor]:
        """Return one image's outputs by name, without those the system does not have."""
        named = self._asdict().items()
        return {name: values[number] for name, values in named if values is not None}
