"""Graspable regions: visible masks eroded by a margin."""

from __future__ import annotations

import cv2
import numpy as np

from amodal_perception.structures import BoolArray, Instances


def graspable_masks(instances: Instances, margin_px: float) -> BoolArray:
    """Erode every visible mask by a margin.

    Hidden pixels are guesses, so none is ever graspable. The margin keeps a grasp off the edges,
    where masks are least exact and a gripper meets what lies in front; the image's border counts
    as an edge, since the object may go on behind it.

    Args:
        instances: the objects.
        margin_px: least distance of a graspable pixel from the nearest pixel that is not visible
            of the same object, minus one: 0 keeps the visible mask, 1 takes off its outline.

    Returns:
        [N, H, W] bool, a subset of ``instances.visible``; empty where an object is too thin.
    """
    graspable = np.zeros((len(instances), *instances.size_hw), np.bool_)
    for i, visible in enumerate(instances.visible_crops):
        # Padded, since the distance to what lies outside the picture counts too.
        seen = np.pad(visible, 1).view(np.uint8)
        if seen.any():
            distance_px = cv2.distanceTransform(seen, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            graspable[i][instances.window(i)] = distance_px[1:-1, 1:-1] > margin_px
    return graspable
