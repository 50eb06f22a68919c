"""Stored regions as run lengths, and their areas and overlaps, without decoding a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from amodal_perception.amodal_coco import AmodalCoco, Json
from amodal_perception.errors import DatasetError

Rle = dict[str, Any]
"""COCO's compressed run lengths: ``size`` (height, width) and ``counts``."""


def amodal_rle(scenes: AmodalCoco, row: Json) -> Rle:
    """Return an annotation's complete region."""
    return _rle(scenes, row, "segmentation")


def visible_rle(scenes: AmodalCoco, row: Json) -> Rle:
    """Return the visible part of an annotation's region; all of it where none is stored."""
    if "visible_segmentation" not in row:
        return amodal_rle(scenes, row)
    return intersection([_rle(scenes, row, "visible_segmentation"), amodal_rle(scenes, row)])


def box_xywh(scenes: AmodalCoco, row: Json) -> list[float]:
    """Return an annotation's amodal box; that of its region where none is stored."""
    if "bbox" not in row:
        return list(coco_mask.toBbox(amodal_rle(scenes, row)).tolist())
    box = row["bbox"]
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box)
    ):
        raise DatasetError(
            f"{scenes.path}: annotation {row['id']}, 'bbox' is {box!r}, expected x, y, width and "
            "height in pixels"
        )
    return box


def area_px(rle: Rle) -> int:
    """Count a region's pixels."""
    return int(coco_mask.area(rle))


def intersection(rles: Sequence[Rle]) -> Rle:
    """Return the pixels that are in every region."""
    return coco_mask.merge(list(rles), intersect=True)


def iou_matrix(a: Sequence[Rle], b: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the [N, M] intersection over union of every pair."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(coco_mask.iou(list(a), list(b), [0] * len(b)), np.float64)


def hidden_iou(amodal: tuple[Rle, Rle], visible: tuple[Rle, Rle]) -> float:
    """Return the IoU of the hidden parts (amodal and not visible) of two objects.

    0 where only one of them is hidden at all; NaN where neither is.
    """
    both_amodal = intersection(amodal)
    either_visible = coco_mask.merge(list(visible), intersect=False)
    common = area_px(both_amodal) - area_px(intersection([both_amodal, either_visible]))
    hidden = [area_px(whole) - area_px(seen) for whole, seen in zip(amodal, visible)]
    union = sum(hidden) - common
    return common / union if union else float("nan")


def _rle(scenes: AmodalCoco, row: Json, key: str) -> Rle:
    """Return a region as compressed run lengths, whichever of COCO's forms it is stored in."""
    image = scenes.images[row["image_id"]]
    size = [image["height"], image["width"]]
    try:
        region = row[key]
        if isinstance(region, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(region, *size))
        elif isinstance(region["counts"], list):
            rle = coco_mask.frPyObjects(region, *region["size"])
        else:
            rle = region
        if list(rle["size"]) != size:
            raise ValueError(f"size is {list(rle['size'])}, but the image is {size}")
    except Exception as error:  # pycocotools raises bare Exception
        raise DatasetError(f"{scenes.path}: annotation {row['id']}, '{key}': {error}") from None
    return rle
