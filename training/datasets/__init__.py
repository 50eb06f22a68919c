"""Training data, by the name a training configuration gives its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.datasets.amodal_boxes import AmodalBoxesDataset
from training.datasets.amodal_coco import AmodalCocoDataset
from training.datasets.sample import SampleDataset

DATASETS: dict[str, Callable[[Path, tuple[int, int], int], SampleDataset]] = {
    "amodal_coco": AmodalCocoDataset,
    "amodal_boxes": AmodalBoxesDataset,
}
