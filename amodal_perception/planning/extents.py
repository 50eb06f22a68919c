"""3D extents of objects from depth: a measured box, and an amodal one in part guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, FloatArray, Instances

MIN_DEPTH_PX = 50
# Pixels at an outline often hold the depth of what lies behind: leave out so many at both ends.
OUTLIERS_PERCENT = 2.0

NOWHERE = (float("nan"),) * 3


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion; the centre of the first pixel is at (0, 0)."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float


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
    x = (xs - camera.cx_px) * z / camera.fx_px
    y = (ys - camera.cy_px) * z / camera.fy_px

    in_x = _ends(amodal, 1) + columns.start
    in_y = _ends(amodal, 0) + rows.start
    left, right = _spread(in_x, camera.cx_px, camera.fx_px, near, far)
    top, bottom = _spread(in_y, camera.cy_px, camera.fy_px, near, far)
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


def _spread(
    ends_px: NDArray[np.integer], centre_px: float, focal_px: float, near_m: float, far_m: float
) -> tuple[float, float]:
    """Project both outer edges of a row of pixels to the visible surface, metres."""
    low = (float(ends_px[0]) - 0.5 - centre_px) / focal_px
    high = (float(ends_px[1]) + 0.5 - centre_px) / focal_px
    return min(low * near_m, low * far_m), max(high * near_m, high * far_m)
