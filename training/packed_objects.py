"""A data set's objects in NumPy arrays: a million fit into memory, and processes share them.

Rows of Python objects take ten times the room, and forked processes copy them page by page as
they count references.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from amodal_perception.boxes import xywh_to_xyxy
from amodal_perception.errors import DatasetError
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import visible_inside
from amodal_perception.storage.coco_rle import Rle, areas_px, boxes_xywh
from amodal_perception.storage.image_files import read_image
from amodal_perception.structures import UInt8Array

BORDER_PX = 3
"""An object nearer to the border may be cut by it: hand-drawn outlines end a little before it."""


class PackedRles:
    """COCO RLEs in one array of bytes; an index without one has a code of no length."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, code: str) -> None:
        """Add a mask's counts."""
        self._bytes += code.encode("ascii")
        self._ends.append(len(self._bytes))

    def code(self, index: int) -> str:
        """Return a mask's counts."""
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode("ascii")


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

    def within(self, margin_px: int) -> NDArray[np.bool_]:
        """Tell which objects stay away from their picture's border: [N] bool."""
        height, width = self.size_hw[self.image].T
        x0, y0, x1, y1 = self.box_xyxy.T
        near = np.minimum.reduce([x0, y0, width - x1, height - y1])
        return near >= margin_px

    def of_image(self, image: int) -> range:
        """List the objects of an image."""
        return range(int(self.first[image]), int(self.first[image + 1]))

    def size_of(self, image: int) -> tuple[int, int]:
        """Return an image's height and width, pixels."""
        return int(self.size_hw[image, 0]), int(self.size_hw[image, 1])

    def amodal(self, index: int) -> Rle:
        """Return an object's complete mask."""
        size_hw = self.size_of(int(self.image[index]))
        return {"size": list(size_hw), "counts": self._amodal.code(index)}

    def visible(self, index: int) -> Rle:
        """Return an object's visible mask."""
        rle = self.amodal(index)
        return {**rle, "counts": self._visible.code(index) or rle["counts"]}

    def read_image(self, image: int) -> UInt8Array:
        """Read a photograph: [H, W, 3] uint8 RGB.

        Raises:
            ImageError: missing or damaged.
            DatasetError: not of the size that the file states.
        """
        path = self.images_dir / self.file_names[image]
        picture = read_image(path)
        if picture.shape[:2] != self.size_of(image):
            raise DatasetError(
                f"{path}: is {picture.shape[:2]}, the truth says {self.size_of(image)}"
            )
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
    tables, first = [np.zeros((0, 10), np.int64)], [0]
    amodal_codes, visible_codes = PackedRles(), PackedRles()
    for number, record in enumerate(tqdm(images, unit="image", desc=path.name, delay=2)):
        rows = truth.annotations_of(record["id"])
        area = areas_px([row["segmentation"] for row in rows])
        rows, area = [rows[i] for i in np.flatnonzero(area)], area[area > 0]
        first.append(first[-1] + len(rows))
        if not rows:
            continue
        amodal, visible = [row["segmentation"] for row in rows], [*map(visible_inside, rows)]
        seen = areas_px(visible)
        facts = [(number, label_of[r["category_id"]], r["id"], r.get("iscrowd", 0)) for r in rows]
        boxes = xywh_to_xyxy(boxes_xywh(amodal).astype(np.float32)).astype(np.int64)
        tables.append(np.column_stack([np.array(facts, np.int64), area, area - seen, boxes]))
        for whole, part in zip(amodal, visible):
            amodal_codes.append(whole["counts"])
            visible_codes.append("" if part["counts"] == whole["counts"] else part["counts"])
    table = np.concatenate(tables)
    return Objects(
        images_dir=path.parent if images_dir is None else images_dir,
        file_names=[record["file_name"] for record in images],
        image_ids=np.array(image_ids, np.int64),
        size_hw=np.array([(r["height"], r["width"]) for r in images], np.int32).reshape(-1, 2),
        first=np.array(first, np.int64),
        image=table[:, 0].astype(np.int32),
        label=table[:, 1].astype(np.int32),
        id=table[:, 2],
        crowd=table[:, 3].astype(np.bool_),
        area_px=table[:, 4],
        hidden_px=table[:, 5],
        box_xyxy=table[:, 6:].astype(np.float32),
        class_names=truth.class_names,
        _amodal=amodal_codes,
        _visible=visible_codes,
    )
