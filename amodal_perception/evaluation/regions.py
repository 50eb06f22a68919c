"""Stored regions as run lengths, checked, and their areas and boxes, without decoding a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from amodal_perception.errors import DatasetError
from amodal_perception.storage.amodal_coco import AmodalCoco, Json

Rle = dict[str, Any]
"""COCO's compressed run lengths: ``size`` (height, width) and ``counts``."""


def amodal_rle(scenes: AmodalCoco, row: Json) -> Rle:
    """Return an annotation's complete region."""
    return _rle(scenes, row, "segmentation")


def visible_rle(scenes: AmodalCoco, row: Json) -> Rle:
    """Return the visible part of an annotation's region as stored; all of it where none is."""
    return _rle(scenes, row, "visible_segmentation" if "visible_segmentation" in row else None)


def stored_box(scenes: AmodalCoco, row: Json, key: str) -> list[float] | None:
    """Return ``bbox`` or ``visible_bbox`` (xywh, pixels); None where it is not stored."""
    box = row.get(key)
    if box is None:
        return None
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in box)
    ):
        raise DatasetError(
            f"{scenes.path}: annotation {row['id']}, '{key}' is {box!r}, expected x, y, width and "
            "height in pixels"
        )
    return box


def areas_px(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Count the pixels of each region."""
    # One by one: given more than 255 at a time, pycocotools 2.0.11 overflows.
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def boxes_xywh(rles: Sequence[Rle]) -> NDArray[np.float64]:
    """Return the [N, 4] tight boxes; zeros for empty regions."""
    return np.asarray(coco_mask.toBbox(list(rles)), np.float64).reshape(-1, 4)


def intersection(rles: Sequence[Rle]) -> Rle:
    """Return the pixels that are in every region."""
    return coco_mask.merge(list(rles), intersect=True)


def iou_matrix(
    a: Sequence[Rle], b: Sequence[Rle], is_crowd: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return the [N, M] intersection over union of every pair; over |a| where b is a crowd."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    crowd = list(is_crowd) if is_crowd is not None else [0] * len(b)
    return np.asarray(coco_mask.iou(list(a), list(b), crowd), np.float64)


def box_iou_matrix(
    a_xywh: NDArray[np.float64], b_xywh: NDArray[np.float64], is_crowd: Sequence[int]
) -> NDArray[np.float64]:
    """Return the [N, M] intersection over union of every pair of boxes, as COCO computes it."""
    if not len(a_xywh) or not len(b_xywh):
        return np.zeros((len(a_xywh), len(b_xywh)))
    return np.asarray(coco_mask.iou(a_xywh, b_xywh, list(is_crowd)), np.float64)


def _rle(scenes: AmodalCoco, row: Json, key: str | None) -> Rle:
    """Return a region as compressed run lengths, whichever of COCO's forms it is stored in."""
    key = key or "segmentation"
    image = scenes.images[row["image_id"]]
    size = [image["height"], image["width"]]
    try:
        region = row[key]
        if isinstance(region, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(region, *size))
        elif isinstance(region["counts"], list):
            if sum(region["counts"]) != region["size"][0] * region["size"][1]:
                raise ValueError("its run lengths do not sum to height x width")
            rle = coco_mask.frPyObjects(region, *region["size"])
        else:
            rle = region
        if list(rle["size"]) != size:
            raise ValueError(f"size is {list(rle['size'])}, but the image is {size}")
    except Exception as error:  # pycocotools raises bare Exception
        raise DatasetError(f"{scenes.path}: annotation {row['id']}, '{key}': {error}") from None
    return rle
