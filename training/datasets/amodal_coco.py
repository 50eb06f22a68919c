"""Read the amodal COCO format (see `amodal_perception.amodal_coco`) for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception import amodal_coco
from amodal_perception.errors import DatasetError
from amodal_perception.masks import mask_windows
from amodal_perception.preprocess import letterbox
from amodal_perception.structures import ViewTransform
from training.datasets.sample import Sample

FILE_NAME = "annotations.json"


class AmodalCocoDataset:
    """A folder with ``annotations.json`` and the images it names.

    What was read once stays in memory at the network's input size, images as bytes and masks as
    packed bits (0.4 MB an image at 288 x 384), because decoding costs more than a training step.
    """

    def __init__(self, folder: Path, input_hw: tuple[int, int]) -> None:
        self.folder = folder
        self.input_hw = input_hw
        self.truth = amodal_coco.read(folder / FILE_NAME)
        self.image_ids = sorted(self.truth.images)
        if not self.image_ids:
            raise DatasetError(f"{folder / FILE_NAME}: holds no images")
        self._label_of = {id: i for i, id in enumerate(sorted(self.truth.categories))}
        self._packed: dict[int, tuple] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self.truth.class_names

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample at the network's input size.

        Raises:
            DatasetError: the image is missing, damaged, or not of the size the file states.
        """
        if index not in self._packed:
            self._packed[index] = self._read(self.image_ids[index])
        image, windows, crops, labels = self._packed[index]
        masks = np.zeros((2, len(windows), *self.input_hw), np.bool_)
        for i, ((x0, y0, x1, y1), crop) in enumerate(zip(windows, crops)):
            bits = np.unpackbits(crop, count=2 * (y1 - y0) * (x1 - x0))
            masks[:, i, y0:y1, x0:x1] = bits.reshape(2, y1 - y0, x1 - x0)
        return Sample(image, masks[0], masks[1], labels)

    def _read(self, image_id: int) -> tuple:
        record = self.truth.images[image_id]
        path = self.folder / record["file_name"]
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise DatasetError(f"{path}: cannot be read as an image; remove or restore it")
        record_hw = (record["height"], record["width"])
        if bgr.shape[:2] != record_hw:
            raise DatasetError(f"{path}: is {bgr.shape[:2]}, the truth says {record_hw}")
        batch, view = letterbox(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), self.input_hw)
        rows = self.truth.annotations_of(image_id)
        amodal = _masks_in_view([row["segmentation"] for row in rows], view)
        visible = amodal & _masks_in_view(
            [row.get("visible_segmentation", row["segmentation"]) for row in rows], view
        )
        windows = mask_windows(amodal)
        crops = [
            np.packbits(np.stack([a[y0:y1, x0:x1], v[y0:y1, x0:x1]]))
            for a, v, (x0, y0, x1, y1) in zip(amodal, visible, windows)
        ]
        labels = np.array([self._label_of[row["category_id"]] for row in rows], np.int64)
        return batch[0], windows, crops, labels


def _masks_in_view(segmentations: list[Any], view: ViewTransform) -> NDArray[np.bool_]:
    """Decode COCO masks at the network's input size: [N, H, W], by the centres of its pixels."""
    masks = np.zeros((len(segmentations), *view.input_hw), np.bool_)
    left, top = (round(v) for v in view.offset_xy)
    width = round(view.camera_hw[1] * view.scale_xy[0])
    height = round(view.camera_hw[0] * view.scale_xy[1])
    for mask, segmentation in zip(masks, segmentations):
        camera = amodal_coco.decode_mask(segmentation, view.camera_hw).view(np.uint8)
        scaled = cv2.resize(camera, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        mask[top : top + height, left : left + width] = scaled
    return masks
