"""The objects of a data set, packed: a million of them fit into memory, and processes share them.

Rows of Python objects would take ten times the room, and a forked process would copy them page by
page as it counts references.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from tqdm import tqdm

from amodal_perception import amodal_coco
from amodal_perception.amodal_coco import AmodalCoco, Json
from amodal_perception.boxes import xywh_to_xyxy
from amodal_perception.errors import DatasetError
from amodal_perception.images import read_image
from amodal_perception.structures import UInt8Array
from training.converters.coco_rle import Rle
from training.converters.segmentation import to_rle


class PackedRles:
    """COCO RLEs in one array of bytes."""

    def __init__(self, rles: list[bytes]) -> None:
        self._bytes = np.frombuffer(b"".join(rles), np.uint8)
        self._bounds = np.cumsum([0, *map(len, rles)], dtype=np.int64)

    def get(self, index: int, size_hw: tuple[int, int]) -> Rle:
        """Return mask `index` of an image of the given size."""
        start, stop = self._bounds[index : index + 2]
        return {"size": list(size_hw), "counts": self._bytes[start:stop].tobytes()}


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects of I images, those of an image side by side.

    Attributes:
        images_dir: folder of the photographs.
        file_names: of the I images, relative to the folder.
        image_ids: [I] int64, as in the file.
        size_hw: [I, 2] int32, pixels.
        first: [I + 1] int64; the objects of image k are ``first[k]`` to ``first[k + 1]``.
        image: [N] int32, index of the object's image.
        label: [N] int32, index into the class names.
        id: [N] int64, of the annotation.
        crowd: [N] bool, a group of objects under one mask.
        box_xyxy: [N, 4] float32, of the amodal mask, pixels.
        area_px: [N] int64, of the amodal mask.
        hidden_px: [N] int64, of it what is not visible.
        class_names: in the order of the category ids.
    """

    images_dir: Path
    file_names: list[str]
    image_ids: NDArray[np.int64]
    size_hw: NDArray[np.int32]
    first: NDArray[np.int64]
    image: NDArray[np.int32]
    label: NDArray[np.int32]
    id: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    box_xyxy: NDArray[np.float32]
    area_px: NDArray[np.int64]
    hidden_px: NDArray[np.int64]
    class_names: tuple[str, ...]
    _amodal: PackedRles
    _visible: PackedRles

    def __len__(self) -> int:
        return len(self.image)

    def of_image(self, image: int) -> range:
        """List the objects of an image."""
        return range(int(self.first[image]), int(self.first[image + 1]))

    def size_of(self, image: int) -> tuple[int, int]:
        """Return an image's height and width, pixels."""
        return int(self.size_hw[image, 0]), int(self.size_hw[image, 1])

    def amodal(self, index: int) -> Rle:
        """Return an object's complete mask."""
        return self._amodal.get(index, self.size_of(int(self.image[index])))

    def visible(self, index: int) -> Rle:
        """Return an object's visible mask."""
        return self._visible.get(index, self.size_of(int(self.image[index])))

    def read_image(self, image: int) -> UInt8Array:
        """Read a photograph: [H, W, 3] uint8 RGB.

        Raises:
            ImageError: missing or damaged.
            DatasetError: not of the size that the file states.
        """
        path = self.images_dir / self.file_names[image]
        picture = read_image(path)
        if picture.shape[:2] != self.size_of(image):
            raise DatasetError(f"{path}: is {picture.shape[:2]}, not {self.size_of(image)}")
        return picture


def read_objects(path: Path, images_dir: Path | None = None) -> Objects:
    """Read a file in COCO's or the amodal COCO format.

    Args:
        path: the JSON file. Without ``visible_segmentation``, all of an object is visible.
        images_dir: folder of the photographs; None takes the file's own.

    Raises:
        DatasetError: not such a file, or a mask that cannot be understood.
    """
    truth = amodal_coco.read(path)
    label_of = {id: label for label, id in enumerate(sorted(truth.categories))}
    image_ids = sorted(truth.images)
    images = [truth.images[id] for id in image_ids]
    first, rows = [0], []
    for number, record in enumerate(tqdm(images, unit="image", desc=path.name, delay=2)):
        for row, amodal, visible in _masks(truth, record):
            amodal_px, visible_px = coco_mask.area([amodal, visible]).tolist()
            box = coco_mask.toBbox(amodal)
            label = label_of[row["category_id"]]
            crowd = bool(row.get("iscrowd", 0))
            facts = (number, label, row["id"], crowd, amodal_px, amodal_px - visible_px)
            rows.append((facts, box, amodal["counts"], visible["counts"]))
        first.append(len(rows))
    facts = np.array([row[0] for row in rows], np.int64).reshape(-1, 6)
    boxes = np.array([row[1] for row in rows], np.float32).reshape(-1, 4)
    return Objects(
        images_dir=path.parent if images_dir is None else images_dir,
        file_names=[record["file_name"] for record in images],
        image_ids=np.array(image_ids, np.int64),
        size_hw=np.array([(r["height"], r["width"]) for r in images], np.int32).reshape(-1, 2),
        first=np.array(first, np.int64),
        image=facts[:, 0].astype(np.int32),
        label=facts[:, 1].astype(np.int32),
        id=facts[:, 2],
        crowd=facts[:, 3].astype(np.bool_),
        box_xyxy=xywh_to_xyxy(boxes),
        area_px=facts[:, 4],
        hidden_px=facts[:, 5],
        class_names=truth.class_names,
        _amodal=PackedRles([row[2] for row in rows]),
        _visible=PackedRles([row[3] for row in rows]),
    )


def _masks(truth: AmodalCoco, record: Json) -> Iterator[tuple[Json, Json, Json]]:
    """Yield the rows of an image with amodal and visible RLE; none without a pixel."""
    size_hw = (int(record["height"]), int(record["width"]))
    for row in truth.annotations_of(record["id"]):
        rles = []
        for key in ("segmentation", "visible_segmentation"):
            if key in row:
                try:
                    rles.append(to_rle(row[key], size_hw, Counter()))
                except ValueError as error:
                    name = f"{truth.path}: annotation {row['id']}, '{key}'"
                    raise DatasetError(f"{name}: {error}") from None
        amodal = rles[0]
        visible = coco_mask.merge(rles, intersect=True) if len(rles) == 2 else amodal
        if coco_mask.area(amodal) > 0:
            yield row, amodal, visible
