"""Slots of a memory bank: K-Means medoids of large classes, augmented copies in small ones.

The paper takes "K_s cluster centers" of K-Means (section 3.1). A centre is no object and has no
boxes, so here the slot is the object nearest to it. The clusters are those of the encoder's codes,
by which the bank is searched.
"""

from __future__ import annotations

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from amodal_perception.masks import mask_windows
from training.models.pgexp.prior_building.mask_crops import crop_to_box

KMEANS_ITERATIONS = 20
SCALE = 0.1
SHIFT = 0.1
ROTATION_DEG = 10.0


def medoids(codes: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """K-Means medoids: of every cluster the object nearest to its centre.

    Args:
        codes: [N, D] float32.
        count: how many, at most N.
        seed: of the first centres.

    Returns:
        [count] int64, different objects in ascending order. A cluster that is empty, as when many
        codes are equal, is replaced by an object drawn from the rest.
    """
    codes = np.ascontiguousarray(codes, np.float32)
    kmeans = faiss.Kmeans(
        codes.shape[1],
        count,
        niter=KMEANS_ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(codes),  # use all of them
    )
    kmeans.train(codes)
    distance, cluster = (found[:, 0] for found in kmeans.index.search(codes, 1))
    nearest_first = np.lexsort((distance, cluster))
    _, first = np.unique(cluster[nearest_first], return_index=True)
    chosen = nearest_first[first]
    rest = np.setdiff1d(np.arange(len(codes)), chosen)
    extra = np.random.default_rng(seed).choice(rest, count - len(chosen), replace=False)
    return np.sort(np.concatenate([chosen, extra])).astype(np.int64)


def augmented_copy(
    masks: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Augment an object's masks: flip, rotate and jitter the box, as estimated boxes miss it.

    The paper says "spatial transformation" only. Half of the copies are mirrored; all are turned
    by up to 10 degrees; the frame is up to 10 % larger or smaller than the new amodal box and
    off by up to 10 % of its sides. Scaling or shifting the object instead would change nothing,
    as a frame follows its object.

    Args:
        masks: [2, h, w] bool, the amodal and the visible mask.
        rng: draws the change.

    Returns:
        Both masks inside the new frame, [2, 28, 28] bool, and their boxes, [2, 4] float32 xyxy,
        in pixels of one common frame. Visible stays a part of amodal. A mask that would vanish
        is not moved.
    """
    _, height, width = masks.shape
    angle = rng.uniform(-ROTATION_DEG, ROTATION_DEG)
    side = int(np.ceil(np.hypot(height, width))) + 2
    middle = ((width - 1) / 2, (height - 1) / 2)
    affine = np.asarray(cv2.getRotationMatrix2D(middle, angle, 1.0), np.float64)
    affine[:, 2] += [(side - width) / 2, (side - height) / 2]
    mirrored = np.ascontiguousarray(masks[:, :, ::-1]) if rng.random() < 0.5 else masks
    turned = np.stack(
        [
            cv2.warpAffine(mask.astype(np.uint8), affine, (side, side), flags=cv2.INTER_NEAREST)
            for mask in mirrored
        ]
    ).astype(np.bool_)
    if not turned.any(axis=(1, 2)).all():
        turned = mirrored
    boxes = mask_windows(turned).astype(np.float32)
    low, high = boxes[0, :2], boxes[0, 2:]
    centre = (low + high) / 2 + (high - low) * rng.uniform(-SHIFT, SHIFT, 2)
    half = (high - low) / 2 * rng.uniform(1 - SCALE, 1 + SCALE, 2)
    frame = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return crop_to_box(turned, frame), boxes
