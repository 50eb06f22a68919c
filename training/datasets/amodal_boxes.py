"""Box supervision: the amodal COCO format with every mask replaced by its box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amodal_perception.masks import mask_windows
from training.datasets.amodal_coco import CACHE_MB, AmodalCocoDataset
from training.datasets.sample import Sample


class AmodalBoxesDataset:
    """`AmodalCocoDataset` with every mask replaced by its tight box, filled.

    Random changes of a sample cut and move boxes then, not masks: an object that a border cuts
    gets the rest of its box. Nothing can be pasted, since only masks say what to paste.
    """

    def __init__(self, folder: Path, input_hw: tuple[int, int], cache_mb: int = CACHE_MB) -> None:
        """Read the file, not the images; see `AmodalCocoDataset`."""
        self._masks = AmodalCocoDataset(folder, input_hw, cache_mb)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self._masks.class_names

    def __len__(self) -> int:
        return len(self._masks)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample at the network's input size.

        Raises:
            DatasetError: the image is missing, damaged, or not of the size the file states.
        """
        sample = self._masks[index]
        amodal, visible = filled_boxes(sample.amodal), filled_boxes(sample.visible)
        return replace(sample, amodal=amodal, visible=visible, whole=None)


def filled_boxes(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return [N, H, W] masks' tight boxes as masks; an empty mask stays empty."""
    boxes = np.zeros_like(masks)
    for box, (x0, y0, x1, y1) in zip(boxes, mask_windows(masks).tolist()):
        box[y0:y1, x0:x1] = True
    return boxes
