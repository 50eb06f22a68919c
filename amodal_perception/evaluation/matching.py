"""Which predicted instance is which true one, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.amodal_coco import AmodalCoco, Json
from amodal_perception.evaluation.regions import (
    amodal_rle,
    area_px,
    hidden_iou,
    iou_matrix,
    visible_rle,
)
from amodal_perception.structures import BoolArray, FloatArray, IntArray

MIN_SCORE = 0.5
MIN_IOU = 0.5


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """Matched pairs of one image and how well they agree.

    Attributes:
        image_id: the image, in the truth.
        num_true: true objects that are at least partly visible.
        num_predicted: predicted instances with a score of `MIN_SCORE` at least.
        true_of: [N] int32, for every prediction of the image the index of its true object
            (both as in `AmodalCoco.annotations_of`), or -1.
        occlusion_rate: [P] float32, 0..1, of the true object of every pair.
        amodal_iou: [P] float32, 0..1.
        visible_iou: [P] float32, 0..1.
        hidden_iou: [P] float32, 0..1; NaN where nothing of the true object is hidden.
        true_edges: (occluder, occludee), indices of true objects.
        predicted_edges: the same for predicted instances, which `true_of` translates.
    """

    image_id: int
    num_true: int
    num_predicted: int
    true_of: IntArray
    occlusion_rate: FloatArray
    amodal_iou: FloatArray
    visible_iou: FloatArray
    hidden_iou: FloatArray
    true_edges: frozenset[tuple[int, int]]
    predicted_edges: frozenset[tuple[int, int]]


def match_image(truth: AmodalCoco, predictions: AmodalCoco, image_id: int) -> ImageMatches:
    """Match one image's predictions to its truth.

    By descending score, each prediction takes the free true object of its class with the highest
    amodal IoU, if that is `MIN_IOU` at least. Crowds and fully hidden objects take no part, nor
    do edges that name them.
    """
    true_rows = truth.annotations_of(image_id)
    predicted_rows = predictions.annotations_of(image_id)
    true_amodal = [amodal_rle(truth, row) for row in true_rows]
    true_visible = [visible_rle(truth, row) for row in true_rows]
    predicted_amodal = [amodal_rle(predictions, row) for row in predicted_rows]
    predicted_visible = [visible_rle(predictions, row) for row in predicted_rows]
    visible_px = np.array([area_px(rle) for rle in true_visible], np.float32)
    amodal_px = np.array([area_px(rle) for rle in true_amodal], np.float32)

    is_crowd = np.array([row.get("iscrowd", 0) for row in true_rows], np.bool_)
    counted = (visible_px > 0) & ~is_crowd
    sure = np.array([row.get("score", 1.0) >= MIN_SCORE for row in predicted_rows], np.bool_)
    iou = iou_matrix(predicted_amodal, true_amodal)
    iou[:, ~counted] = 0
    iou[~sure] = 0
    iou[_categories(predicted_rows)[:, None] != _categories(true_rows)[None, :]] = 0
    true_of = match_greedily(iou)
    pairs = [(int(p), int(true_of[p])) for p in np.flatnonzero(true_of >= 0)]

    matched = [t for _, t in pairs]
    return ImageMatches(
        image_id=image_id,
        num_true=int(counted.sum()),
        num_predicted=int(sure.sum()),
        true_of=true_of,
        occlusion_rate=1 - visible_px[matched] / amodal_px[matched],
        amodal_iou=np.array([iou[p, t] for p, t in pairs], np.float32),
        visible_iou=np.array(
            [iou_matrix([predicted_visible[p]], [true_visible[t]])[0, 0] for p, t in pairs],
            np.float32,
        ),
        hidden_iou=np.array(
            [
                hidden_iou(
                    (predicted_amodal[p], true_amodal[t]),
                    (predicted_visible[p], true_visible[t]),
                )
                if visible_px[t] < amodal_px[t]
                else np.nan
                for p, t in pairs
            ],
            np.float32,
        ),
        true_edges=_edges(truth.occlusions_of(image_id), counted),
        predicted_edges=_edges(predictions.occlusions_of(image_id), sure),
    )


def match_greedily(iou: NDArray[np.floating]) -> IntArray:
    """Match rows, in their order, to the best column that is still free.

    Args:
        iou: [N, M], 0..1.

    Returns:
        [N] int32, column of each row, or -1 where none reaches `MIN_IOU`.
    """
    free = iou.copy()
    match = np.full(len(iou), -1, np.int32)
    for row in range(len(free)):
        if free.shape[1] and free[row].max() >= MIN_IOU:
            match[row] = free[row].argmax()
            free[:, match[row]] = 0
    return match


def _categories(rows: list[Json]) -> IntArray:
    return np.array([row["category_id"] for row in rows], np.int32)


def _edges(edges: IntArray, allowed: BoolArray) -> frozenset[tuple[int, int]]:
    return frozenset((int(i), int(j)) for i, j in edges if allowed[i] and allowed[j])
