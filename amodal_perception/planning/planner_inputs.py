"""Inputs of grasp and motion planners from scene messages: NumPy alone, so copy this file.

Grasp planners, pose estimators and motion planners outside ROS, or in another Python, need
nothing of this package but this file. Only what is seen goes to who measures or grasps; the
guessed, hidden part goes to who must keep clear of the whole object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decode_mask(
    mask: Any, size_hw: tuple[int, int] | None = None, out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Decode a mask of a scene, an ``amodal_perception/msg/BinaryMask``, to pixels.

    Args:
        mask: the message, or anything with its fields.
        size_hw: the source image's height and width, pixels; None decodes the crop alone, which
            belongs at row ``mask.y``, column ``mask.x``.
        out: [H, W] bool of zeros to draw into, instead of a new array.

    Returns:
        [H, W] bool, or [mask.height, mask.width] without `size_hw`.

    Raises:
        ValueError: the runs do not fill the crop, the crop leaves the image, or `out` has another
            size.
    """
    x0, y0, width, height = (int(n) for n in (mask.x, mask.y, mask.width, mask.height))
    if size_hw is None:
        return decode_runs(mask.counts, (height, width))
    x1, y1 = x0 + width, y0 + height
    if width * height and (x0 < 0 or y0 < 0 or x1 > size_hw[1] or y1 > size_hw[0]):
        raise ValueError(
            f"mask spans columns {x0} to {x1} and rows {y0} to {y1}, "
            f"outside of the {size_hw[1]} x {size_hw[0]} image"
        )
    full = np.zeros(size_hw, np.bool_) if out is None else out
    if full.shape != tuple(size_hw):
        raise ValueError(f"out has the shape {full.shape}, but the image is {tuple(size_hw)}")
    full[y0:y1, x0:x1] = decode_runs(mask.counts, (height, width))
    return full


def decode_runs(counts: Any, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Decode run lengths in row-major order, zeros first, as `encode_row_major_rle` makes them.

    Args:
        counts: lengths of alternating runs of zeros and ones, a sequence of whole numbers.
        size_hw: height and width, pixels.

    Returns:
        [h, w] bool.

    Raises:
        ValueError: the runs are no whole numbers, or do not sum to height * width.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or (counts.size and (counts.dtype.kind not in "ui" or counts.min() < 0)):
        raise ValueError("mask runs are no whole numbers from 0")
    total = sum(counts.tolist())  # Python's integers do not overflow
    if total != size_hw[0] * size_hw[1]:
        raise ValueError(f"mask runs sum to {total}, but {size_hw[0]} x {size_hw[1]} was expected")
    values = np.zeros(len(counts), np.bool_)
    values[1::2] = True
    return np.repeat(values, counts.astype(np.int64)).reshape(size_hw)


def contact_graspnet_input(
    labels: NDArray[np.uint16],
    depth_m: NDArray[np.floating],
    camera_matrix: NDArray[np.floating],
    image: NDArray[np.uint8] | None = None,
) -> dict[str, NDArray]:
    """Make the arrays that Contact-GraspNet reads: ``numpy.savez("scene.npz", **arrays)``.

    It then takes ``--local_regions --filter_grasps``, and its grasps are keyed by instance_id.

    Args:
        labels: [H, W] uint16 instance ids, 0 for none: ``~/graspable_labels``, or
            ``~/visible_labels`` to let grasps reach the edges.
        depth_m: [H, W] float32, metres along the optical axis; NaN or 0 where unknown.
        camera_matrix: [3, 3] K of the depth image, pixels; all three images are aligned.
        image: [H, W, 3] uint8 RGB, only to be shown.

    Returns:
        ``segmap``, ``depth`` (0 where unknown), ``K``, and ``rgb`` where an image is given.

    Raises:
        ValueError: sizes differ.
    """
    arrays: dict[str, NDArray] = {"segmap": labels, "depth": depth_m}
    if image is not None:
        arrays["rgb"] = image
    sizes = {name: f"{array.shape[1]} x {array.shape[0]}" for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"images of one size are needed, but these are {sizes}")
    arrays["depth"] = np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return arrays | {"K": np.asarray(camera_matrix, np.float64).reshape(3, 3)}


def cloud_indices(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """List a mask's points in an organised cloud of the same size: row times width plus column.

    What GPD's ``CloudIndexed`` and PCL's ``PointIndices`` take.

    Args:
        mask: [H, W] bool, visible or graspable: a hidden pixel has no point.

    Returns:
        [P] int32, ascending.
    """
    return np.flatnonzero(mask).astype(np.int32)


def object_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Make the mono8 mask that FoundationPose registers an object with.

    Args:
        mask: [H, W] bool, visible: depth under hidden pixels is that of the occluder.

    Returns:
        [H, W] uint8, 255 where the object is seen, else 0.
    """
    return mask.view(np.uint8) * np.uint8(255)


@dataclass(frozen=True)
class Box:
    """A box along the axes of its frame, metres."""

    centre_xyz: tuple[float, float, float]
    size_xyz: tuple[float, float, float]


def collision_box(
    min_xyz: tuple[float, float, float],
    max_xyz: tuple[float, float, float],
    padding_m: float = 0.01,
) -> Box:
    """Make the box that a motion planner must keep clear of, from an extent's two corners.

    Take the *amodal* corners: they hold the hidden sides too, and a guess at the depth. Where the
    extent says truncated, the object may be larger than any box that could be given.

    Args:
        min_xyz: corner, metres, in the optical frame.
        max_xyz: the opposite corner.
        padding_m: added on every side.

    Raises:
        ValueError: the corners are not finite (too little depth was measured), or not in order.
    """
    low, high = np.array(min_xyz) - padding_m, np.array(max_xyz) + padding_m
    if not np.isfinite([low, high]).all():
        raise ValueError("the object's extent is unknown: too few of its pixels have a depth")
    if (low > high).any():
        raise ValueError(f"corners {min_xyz} and {max_xyz} span no box")
    x, y, z = ((low + high) / 2).tolist()
    width, height, depth = (high - low).tolist()
    return Box((x, y, z), (width, height, depth))
