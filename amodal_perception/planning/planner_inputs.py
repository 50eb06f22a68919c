"""What grasp planners, pose estimators and motion planners take, made of instances.

Only what is seen goes to who measures or grasps; the guessed, hidden part goes to who must keep
clear of the whole object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, FloatArray, Instances, IntArray, UInt8Array


def label_image(instances: Instances, masks: BoolArray) -> NDArray[np.uint16]:
    """Draw masks that do not overlap into one image.

    Args:
        instances: whose masks they are.
        masks: [N, H, W] bool, each inside its instance's window.

    Returns:
        [H, W] uint16, the instance_id (index + 1) that is there, 0 for none.
    """
    labels = np.zeros(instances.size_hw, np.uint16)
    for i in range(len(instances)):
        window = instances.window(i)
        labels[window][masks[i][window]] = i + 1
    return labels


def contact_graspnet_input(
    labels: NDArray[np.uint16],
    depth_m: FloatArray,
    camera_matrix: NDArray[np.floating],
    image: UInt8Array | None = None,
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


def cloud_indices(mask: BoolArray) -> IntArray:
    """List a mask's points in an organised cloud of the same size: row times width plus column.

    What GPD's ``CloudIndexed`` and PCL's ``PointIndices`` take.

    Args:
        mask: [H, W] bool, visible or graspable: a hidden pixel has no point.

    Returns:
        [P] int32, ascending.
    """
    return np.flatnonzero(mask).astype(np.int32)


def object_mask(mask: BoolArray) -> UInt8Array:
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
