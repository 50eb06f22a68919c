"""Amodal COCO annotations of composed pictures, and contours of their masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.coco_rle import Rle, areas_px, boxes_xywh
from amodal_perception.structures import BoolArray


def annotation(
    id: int, label: int, amodal: Rle, visible: Rle, *, crowd: bool = False, **extra: Any
) -> Json:
    """Describe one object.

    Args:
        id: of the annotation, unique in its picture.
        label: index into the class names.
        amodal: not empty.
        visible: a subset of `amodal`.
        crowd: a region that is no object with known masks: metrics forgive what is found there,
            training leaves it out.
        extra: kept in the row.
    """
    area, visible_area = areas_px([amodal, visible]).tolist()
    box, visible_box = boxes_xywh([amodal, visible]).tolist()
    return {
        "id": id,
        "category_id": label + 1,
        "segmentation": amodal,
        "visible_segmentation": visible,
        "bbox": box,
        "visible_bbox": visible_box,
        "area": area,
        "occlusion_rate": round(1 - visible_area / area, 6),
        "iscrowd": int(crowd),
        **extra,
    }


def contours(mask: BoolArray) -> list[list[int]]:
    """Return the outlines of a mask, outer ones and holes: flat ``[x, y, ...]``, pixel indices.

    Every corner is the index of an outermost pixel (or of the pixel around a hole); straight runs
    are given by their ends, so nothing is lost.
    """
    found, _ = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    return [np.asarray(contour, np.int32).reshape(-1).tolist() for contour in found]
