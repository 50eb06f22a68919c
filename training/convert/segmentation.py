"""A mask in any form that files hold, as COCO RLE: polygons flat or nested, runs in any coding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pycocotools import mask as coco_mask

from amodal_perception.storage.coco_rle import Rle, checked_rle, join

LIMIT_PX = 1e5
"""Farther out, a polygon's corner is no place in an image; rasterising it would take forever."""


def to_rle(
    value: Any,
    size_hw: tuple[int, int],
    repairs: Counter[str],
    covered: Mapping[str, int] | None = None,
) -> Rle:
    """Read a mask.

    Args:
        value: nested polygons ``[[x0, y0, x1, y1, ...], ...]``, one flat polygon, polygons of
            ``[x, y]`` points, an RLE dict with counts as text or list, a list of RLE dicts, or
            the counts alone.
        size_hw: height and width of the image, pixels.
        repairs: what is not of COCO's form is counted here.
        covered: pixels that some run-length codes cover, where that is known already.

    Raises:
        ValueError: the value cannot be understood; the text continues "annotation 3, 'key': it ".
    """
    if isinstance(value, dict):
        return _from_dict(value, size_hw, repairs, covered)
    if isinstance(value, (str, bytes)):
        repairs["run lengths without a size: the image's was taken"] += 1
        return checked_rle(value, size_hw)
    if not isinstance(value, list):
        raise ValueError("is missing" if value is None else f"is a {type(value).__name__}")
    if not value:
        raise ValueError("is an empty list")
    if all(isinstance(part, dict) for part in value):
        repairs["lists of run-length masks: joined"] += 1
        return join([_from_dict(part, size_hw, repairs, covered) for part in value])
    polygons = [_corners(part) for part in _nested(value, repairs)]
    # pycocotools takes four numbers for a box, and two for nothing.
    whole = [polygon for polygon in polygons if len(polygon) >= 6]
    if len(whole) < len(polygons):
        repairs["polygons of fewer than three corners: left out"] += len(polygons) - len(whole)
    if not whole:
        raise ValueError("has no polygon of three corners or more")
    return join(coco_mask.frPyObjects(whole, *size_hw))


def _from_dict(
    value: dict[str, Any],
    size_hw: tuple[int, int],
    repairs: Counter[str],
    covered: Mapping[str, int] | None,
) -> Rle:
    if "counts" not in value:
        raise ValueError("has no 'counts'")
    size = value.get("size")
    if size is None:
        repairs["run lengths without a size: the image's was taken"] += 1
    elif list(size) == [size_hw[1], size_hw[0]] and size_hw[0] != size_hw[1]:
        raise ValueError(
            f"is {size[0]} x {size[1]}, but its image {size_hw[0]} x {size_hw[1]} "
            "(height x width): one of the two is turned"
        )
    rle = checked_rle(value["counts"], size_hw, covered)
    if size is not None and list(size) != list(size_hw):
        repairs["run lengths of a wrong size: the image's, which they cover, was taken"] += 1
    return rle


def _nested(value: list[Any], repairs: Counter[str]) -> list[Any]:
    """Bring a list to the form of a list of polygons."""
    if isinstance(value[0], (int, float)):
        repairs["flat polygon lists: nested"] += 1
        return [value]
    if not isinstance(value[0], list):
        raise ValueError(f"holds a {type(value[0]).__name__} where a polygon was expected")
    if all(isinstance(part, list) and len(part) == 2 for part in value) and len(value) > 2:
        repairs["polygons as lists of points: flattened"] += 1
        return [value]
    if value[0] and isinstance(value[0][0], list):
        repairs["polygons as lists of points: flattened"] += 1
    return value


def _corners(polygon: Any) -> list[float]:
    if not isinstance(polygon, list):
        raise ValueError("has a polygon that is no list of numbers")
    if polygon and isinstance(polygon[0], list):
        polygon = [number for point in polygon for number in point]
    if len(polygon) % 2:
        raise ValueError(f"has a polygon of {len(polygon)} numbers, which is odd")
    try:
        # The sum is not finite if a number is not; the comparisons alone would not tell.
        fits = math.isfinite(sum(polygon)) and min(polygon, default=0) >= -LIMIT_PX
        fits = fits and max(polygon, default=0) <= LIMIT_PX
    except TypeError:
        raise ValueError("has a polygon that is no list of numbers") from None
    if not fits:
        raise ValueError("has a polygon with a corner that is no place in an image")
    return polygon
