"""Training samples (image and ground truth) and their collation into padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from amodal_perception.masks import mask_windows
from training.structures import Batch

MIN_VISIBLE_PX = 10
"""Objects that show less at the network's input size are left out: nothing can be learnt there."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image at the network's input size.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        amodal: [N, H, W] bool.
        visible: [N, H, W] bool, a subset of amodal.
        labels: [N] int64, index into the class names.
        whole: [N] bool, in full view and not cut by the picture's border, so that it can be
            pasted elsewhere with its truth; None: not known.
        ids: [N] int64, of the annotations; None: not known.
    """

    image: NDArray[np.uint8]
    amodal: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    labels: NDArray[np.int64]
    whole: NDArray[np.bool_] | None = None
    ids: NDArray[np.int64] | None = None


class SampleDataset(Protocol):
    """A map-style data set of samples."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: int) -> Sample:
        """Return a sample."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples into a padded batch, without objects that hardly show."""
    kept = [np.flatnonzero(_areas(s.visible) >= MIN_VISIBLE_PX) for s in samples]
    B, M = len(samples), max(1, *(len(k) for k in kept))
    height, width = samples[0].image.shape[:2]
    boxes = np.zeros((B, M, 4), np.float32)
    valid = np.zeros((B, M), np.bool_)
    labels = np.zeros((B, M), np.int64)
    ids = np.full((B, M), -1, np.int64)
    amodal = np.zeros((B, M, height, width), np.uint8)
    visible = np.zeros((B, M, height, width), np.uint8)
    for b, (sample, keep) in enumerate(zip(samples, kept)):
        n = len(keep)
        amodal[b, :n] = sample.amodal[keep]
        visible[b, :n] = sample.visible[keep]
        boxes[b, :n] = mask_windows(sample.amodal[keep])
        valid[b, :n] = True
        labels[b, :n] = sample.labels[keep]
        if sample.ids is not None:
            ids[b, :n] = sample.ids[keep]
    images = np.stack([s.image for s in samples])
    arrays = (images, boxes, valid, labels, amodal, visible, ids)
    return Batch(*map(torch.from_numpy, arrays))


def _areas(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(mask) for mask in masks], np.int64)
