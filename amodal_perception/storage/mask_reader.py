"""A stored mask in any form that files hold, as checked COCO RLE: polygons or run lengths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from amodal_perception.storage.coco_rle import (
    Rle,
    checked_rle,
    covered_pixels,
    rasterise_polygons,
    union,
)

LIMIT_PX = 1e5
"""Farther out, a polygon's corner is no place in an image."""
MAX_OUTLINE_PX = 2e6
"""A longer outline is none of an object; rasterising takes 100 bytes for each of its pixels."""


def read_mask(
    value: Any,
    size_hw: tuple[int, int],
    repairs: Counter[str] | None = None,
    covered: Mapping[str, int] | None = None,
) -> Rle:
    """Read a mask.

    Args:
        value: nested polygons ``[[x0, y0, x1, y1, ...], ...]``, one flat polygon, polygons of
            ``[x, y]`` points, an RLE dict with counts as text or list, a list of RLE dicts, or
            the counts alone. Polygons of fewer than three corners have no area: they are left
            out where there are others.
        size_hw: height and width of the image, pixels.
        repairs: what is not of COCO's form is counted here, and RLEs that state another size are
            taken if they cover the image. None: they are refused.
        covered: what is known of run-length codes, from `look_ahead`.

    Raises:
        ValueError: the value cannot be understood; the text continues "annotation 3, 'key': it ".
    """
    counter = Counter[str]() if repairs is None else repairs
    if isinstance(value, dict):
        return _from_dict(value, size_hw, repairs, covered)
    if isinstance(value, (str, bytes)):
        counter["run lengths without a size: the image's was taken"] += 1
        return checked_rle(value, size_hw)
    if not isinstance(value, list):
        raise ValueError("is missing" if value is None else f"is a {type(value).__name__}")
    if not value:
        raise ValueError("is an empty list")
    if all(isinstance(part, dict) for part in value):
        counter["lists of run-length masks: joined"] += 1
        return union([_from_dict(part, size_hw, repairs, covered) for part in value])
    polygons = [_corners(part) for part in _nested(value, counter)]
    # pycocotools takes four numbers for a box, and two for nothing.
    whole = [polygon for polygon in polygons if len(polygon) >= 6]
    if len(whole) < len(polygons):
        counter["polygons of fewer than three corners: left out"] += len(polygons) - len(whole)
    if not whole:
        raise ValueError("has no polygon of three corners or more")
    return rasterise_polygons(whole, size_hw)


def look_ahead(values: Iterable[Any]) -> dict[str, int]:
    """Check the run lengths of many stored masks together, which is faster than one by one.

    Args:
        values: masks in any form, or anything else.

    Returns:
        What `read_mask` takes as `covered`.
    """
    counts = (value.get("counts") for value in values if isinstance(value, dict))
    return covered_pixels(code for code in counts if isinstance(code, str))


def _from_dict(
    value: dict[str, Any],
    size_hw: tuple[int, int],
    repairs: Counter[str] | None,
    covered: Mapping[str, int] | None,
) -> Rle:
    if value.get("counts") is None:
        raise ValueError("has no 'counts'")
    size = value.get("size")
    if size is None or size == list(size_hw):
        rle = checked_rle(value["counts"], size_hw, covered)
        if size is None and repairs is not None:
            repairs["run lengths without a size: the image's was taken"] += 1
        return rle
    stated = f"{size[0]!r:.9} x {size[1]!r:.9}" if _is_pair(size) else f"of size {size!r:.40}"
    if repairs is None or not _is_pair(size):
        raise ValueError(f"is {stated}, but its image is {size_hw[0]} x {size_hw[1]}")
    if list(size) == [size_hw[1], size_hw[0]]:
        raise ValueError(
            f"is {stated}, but its image {size_hw[0]} x {size_hw[1]} "
            "(height x width): one of the two is turned"
        )
    rle = checked_rle(value["counts"], size_hw, covered)
    if list(size) != list(size_hw):
        repairs["run lengths of a wrong size: the image's, which they cover, was taken"] += 1
    return rle


def _is_pair(size: Any) -> bool:
    return isinstance(size, (list, tuple)) and len(size) == 2


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
    try:
        if polygon and isinstance(polygon[0], list):
            if any(len(point) != 2 for point in polygon):
                raise ValueError("has a polygon with a point of other than two numbers")
            polygon = [number for point in polygon for number in point]
        # The sum is not finite if a number is not; the comparisons alone would not tell.
        is_finite = math.isfinite(sum(polygon))
        low, high = min(polygon, default=0), max(polygon, default=0)
    except (TypeError, OverflowError):
        raise ValueError("has a polygon that is no list of numbers") from None
    if any(isinstance(number, bool) for number in polygon):
        raise ValueError("has a polygon with true or false for a number")
    if len(polygon) % 2:
        raise ValueError(f"has a polygon of {len(polygon)} numbers, which is odd")
    if not is_finite or low < -LIMIT_PX or high > LIMIT_PX:
        raise ValueError("has a polygon with a corner that is no place in an image")
    longest_px = len(polygon) / 2 * (high - low)
    if longest_px > MAX_OUTLINE_PX and _outline_px(polygon) > MAX_OUTLINE_PX:
        raise ValueError(f"has a polygon with an outline of more than {MAX_OUTLINE_PX:.0f} pixels")
    return polygon


def _outline_px(polygon: list[float]) -> float:
    """Return the length of a polygon's outline in pixels, as many as a line is drawn of."""
    xs, ys = polygon[::2], polygon[1::2]
    sides = zip(xs, xs[1:] + xs[:1], ys, ys[1:] + ys[:1])
    return sum(max(abs(x1 - x0), abs(y1 - y0)) for x0, x1, y0, y1 in sides)
