"""Mask crops inside amodal boxes: the training data of encoder, flow network and bank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from tqdm import tqdm

from amodal_perception.masks import mask_windows
from amodal_perception.storage.coco_rle import decode_masks
from amodal_perception.storage.memory_bank import CELLS, pack_masks, unpack_masks
from training.models.roi.roi_align import ADAPTIVE_SAMPLING
from training.packed_objects import Objects


@dataclass(frozen=True, eq=False)
class MaskCrops:
    """Mask crops of N objects with a visible mask, without crowds.

    Attributes:
        visible: [N, 98] uint8, inside the amodal box, packed.
        amodal: [N, 98] uint8.
        visible_xyxy: [N, 4] float32, pixels of the picture.
        amodal_xyxy: [N, 4] float32.
        label: [N] int64, index into the class names.
        id: [N] int64, of the annotation.
        row: [N] int64, index into the `Objects`.
    """

    visible: NDArray[np.uint8]
    amodal: NDArray[np.uint8]
    visible_xyxy: NDArray[np.float32]
    amodal_xyxy: NDArray[np.float32]
    label: NDArray[np.int64]
    id: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, index: NDArray) -> MaskCrops:
        """Return some of the objects."""
        return MaskCrops(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def masks(self, name: str) -> torch.Tensor:
        """Return the ``visible`` or ``amodal`` masks, [N, 28, 28] float32, 0 or 1."""
        return torch.from_numpy(unpack_masks(getattr(self, name)).astype(np.float32))


def crop_objects(objects: Objects) -> MaskCrops:
    """Crop all objects but those with an empty visible mask, which cannot be looked up."""
    rows, crops, boxes = [], [], []
    images = range(len(objects.file_names))
    for image in tqdm(images, "cropping masks", unit="image", delay=2):
        for i in objects.of_image(image):
            if objects.crowd[i] or objects.hidden_px[i] >= objects.area_px[i]:
                continue
            masks, (x0, y0) = both_masks(objects, i)
            own = mask_windows(masks).astype(np.float32)  # amodal, visible
            rows.append(i)
            crops.append(crop_to_box(masks, own[0]))
            boxes.append(own + np.array([x0, y0, x0, y0], np.float32))
    both = np.array(crops, np.bool_).reshape(-1, 2, CELLS, CELLS)
    packed, xyxy = pack_masks(both), np.array(boxes, np.float32).reshape(-1, 2, 4)
    row = np.array(rows, np.int64)
    return MaskCrops(
        visible=packed[:, 1],
        amodal=packed[:, 0],
        visible_xyxy=xyxy[:, 1],
        amodal_xyxy=xyxy[:, 0],
        label=objects.label[row].astype(np.int64),
        id=objects.id[row],
        row=row,
    )


def both_masks(objects: Objects, index: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Return an object's amodal and visible mask in and just around its amodal box.

    Returns:
        [2, h, w] bool, and x and y of the first column and row, pixels.
    """
    x0, y0, x1, y1 = objects.box_xyxy[index].astype(int).tolist()
    x0, y0, x1, y1 = max(x0 - 1, 0), max(y0 - 1, 0), x1 + 1, y1 + 1  # as far as there is a picture
    rles = [objects.amodal(index), objects.visible(index)]
    masks = decode_masks(rles)[:, y0:y1, x0:x1]
    return np.ascontiguousarray(masks, np.bool_), (x0, y0)


def crop_to_box(masks: NDArray[np.bool_], box_xyxy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Crop as `training.models.roi.roi_align.crop_masks` does, so that keys match queries.

    Args:
        masks: [M, h, w] bool.
        box_xyxy: [4], of the crop, in their pixels.

    Returns:
        [M, 28, 28] bool: at least half of the cell is covered.
    """
    covered = torchvision.ops.roi_align(
        torch.from_numpy(masks.astype(np.float32))[None],
        [torch.from_numpy(box_xyxy)[None]],
        CELLS,
        1.0,
        ADAPTIVE_SAMPLING,
        aligned=True,
    )[0]
    return (covered >= 0.5).numpy()
