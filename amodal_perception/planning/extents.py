"""3D extents of objects from depth: a measured box, and an amodal one in part guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from amodal_perception.planning.camera_model import Intrinsics, pixel_rays
from amodal_perception.structures import BoolArray, FloatArray, Instances

MIN_DEPTH_PX = 50
# Pixels at an outline often hold the depth of what lies behind: leave out so many at both ends.
OUTLIERS_PERCENT = 2.0

NOWHERE = (float("nan"),) * 3


@dataclass(frozen=True)
class Extent:
    """Two boxes around one object, along the axes of the optical frame (REP 103), metres.

    Attributes:
        measured_min_xyz: corner of the box around the visible surface; NaN without enough depth.
        measured_max_xyz: the opposite corner.
        amodal_min_xyz: corner of a box that should hold the complete object. Its sides are those
            of the amodal mask, seen at the visible surface's depth; its back is as far behind the
            front as the object is large across, for no camera sees the back.
        amodal_max_xyz: the opposite corner.
        depth_px: visible pixels with a depth.
        is_guessed: the amodal mask reaches further than the visible one, so that the amodal box's
            sides are guessed too.
        is_truncated: the object leaves the image, so it may be larger than both boxes.
        has_insufficient_depth: too few pixels have a depth; all corners are NaN.
    """

    measured_min_xyz: tuple[float, float, float]
    measured_max_xyz: tuple[float, float, float]
    amodal_min_xyz: tuple[float, float, float]
    amodal_max_xyz: tuple[float, float, float]
    depth_px: int
    is_guessed: bool
    is_truncated: bool
    has_insufficient_depth: bool


def measure_extents(
    instances: Instances, depth_m: FloatArray, camera: Intrinsics
) -> tuple[Extent, ...]:
    """Measure every instance.

    Args:
        instances: masks at the depth image's resolution.
        depth_m: [H, W] float32, metres along the optical axis, aligned with the colour image; NaN
            where unknown.
        camera: of the colour image.

    Returns:
        One extent per instance.

    Raises:
        ValueError: the depth image has another size than the masks.
    """
    if depth_m.shape != instances.size_hw:
        raise ValueError(
            f"depth is {depth_m.shape[1]} x {depth_m.shape[0]} pixels, but the image "
            f"{instances.size_hw[1]} x {instances.size_hw[0]}; give depth aligned with colour"
        )
    return tuple(_measure(instances, i, depth_m, camera) for i in range(len(instances)))


def _measure(instances: Instances, index: int, depth_m: FloatArray, camera: Intrinsics) -> Extent:
    rows, columns = instances.window(index)
    visible, amodal = instances.visible_crops[index], instances.amodal_crops[index]
    ys, xs = np.nonzero(visible)
    z = depth_m[rows, columns][ys, xs]
    known = np.isfinite(z)
    depth_px = int(np.count_nonzero(known))
    extent = Extent(
        *(NOWHERE,) * 4,
        depth_px=depth_px,
        is_guessed=any(
            not np.array_equal(_ends(amodal, axis), _ends(visible, axis)) for axis in (0, 1)
        ),
        is_truncated=bool(instances.truncated[index]),
        has_insufficient_depth=depth_px < MIN_DEPTH_PX,
    )
    if extent.has_insufficient_depth:
        return extent
    ys, xs, z = ys[known], xs[known], z[known]
    range_percent = OUTLIERS_PERCENT, 100 - OUTLIERS_PERCENT
    near, far = (float(v) for v in np.percentile(z, range_percent))
    kept = (near <= z) & (z <= far)
    ys, xs, z = ys[kept] + rows.start, xs[kept] + columns.start, z[kept]
    ray_x, ray_y = pixel_rays(camera, xs, ys)
    x, y = ray_x * z, ray_y * z
    sides = _outline_rays(amodal, rows.start, columns.start, camera)
    if not np.isfinite([*sides, x.sum(), y.sum()]).all():
        return replace(extent, has_insufficient_depth=True)  # outside what the lens model covers
    left, right = _spread(*sides[:2], near, far)
    top, bottom = _spread(*sides[2:], near, far)
    back = max(far, near + max(right - left, bottom - top))
    return replace(
        extent,
        measured_min_xyz=(float(x.min()), float(y.min()), near),
        measured_max_xyz=(float(x.max()), float(y.max()), far),
        amodal_min_xyz=(left, top, near),
        amodal_max_xyz=(right, bottom, back),
    )


def _ends(mask: BoolArray, axis: int) -> NDArray[np.integer]:
    """Return the first and last index along an axis where a mask is set; none for an empty one."""
    return np.flatnonzero(mask.any(axis=1 - axis))[[0, -1] if mask.any() else slice(0)]


def _outline_rays(
    mask: BoolArray, top_px: int, left_px: int, camera: Intrinsics
) -> tuple[float, float, float, float]:
    """Return how far the outer edges of a mask's pixels reach left, right, up and down.

    A lens bends rows and columns, so every row and every column may be the one that reaches
    furthest.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    by_row, by_column = mask[ys], mask[:, xs].T
    first_x, last_x = by_row.argmax(axis=1), mask.shape[1] - 1 - by_row[:, ::-1].argmax(axis=1)
    first_y = by_column.argmax(axis=1)
    last_y = mask.shape[0] - 1 - by_column[:, ::-1].argmax(axis=1)
    left, _ = pixel_rays(camera, first_x + left_px - 0.5, ys + top_px)
    right, _ = pixel_rays(camera, last_x + left_px + 0.5, ys + top_px)
    _, up = pixel_rays(camera, xs + left_px, first_y + top_px - 0.5)
    _, down = pixel_rays(camera, xs + left_px, last_y + top_px + 0.5)
    return float(left.min()), float(right.max()), float(up.min()), float(down.max())


def _spread(low: float, high: float, near_m: float, far_m: float) -> tuple[float, float]:
    """Return how far a cone of rays reaches on the visible surface, metres."""
    return min(low * near_m, low * far_m), max(high * near_m, high * far_m)
