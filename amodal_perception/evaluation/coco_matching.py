"""COCO matching: at each IoU threshold, predictions in order of score take free true objects.

pycocotools' own matching is restated here so that it runs over whole arrays, for any IoU and any
rule of what is ignored; the tests compare the two with ``==``. For measures of single objects see
`one_to_one_matching`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.comparison import Comparison, Float64, Int64
from amodal_perception.structures import BoolArray

IOU_THRESHOLDS: Float64 = np.linspace(0.5, 0.95, 10, dtype=np.float64)
MAX_DETECTIONS = 100
"""Per image and class, as in COCO."""


@dataclass(frozen=True, eq=False)
class CocoMatches:
    """Predictions matched to true objects, at each of T IoU thresholds.

    Attributes:
        true_of: [T, P] int64, the true object of each prediction, or -1.
        rank: [P] int64, place among the predictions of its image and class, best score first;
            one of `MAX_DETECTIONS` or more is left out.
        iou_thresholds: [T] float64.
    """

    true_of: Int64
    rank: Int64
    iou_thresholds: Float64

    @property
    def within_max_detections(self) -> BoolArray:
        """[P] bool: among the `MAX_DETECTIONS` best of its image and class."""
        return self.rank < MAX_DETECTIONS


def match_coco(
    comparison: Comparison,
    iou: Float64,
    *,
    ignored: BoolArray,
    agnostic: bool = False,
    left_out: BoolArray | None = None,
    iou_thresholds: Float64 = IOU_THRESHOLDS,
) -> CocoMatches:
    """Match predictions to true objects as COCO does.

    By descending score, each prediction takes the free true object of its image and class with
    the highest IoU that reaches the threshold: one that counts if there is any, else an ignored
    one. Crowds stay free. Among equal IoUs the last in the file is taken.

    Args:
        comparison: what to match.
        iou: [n] float64, of the pairs in `comparison.overlaps`.
        ignored: [T] bool, true objects that do not count.
        agnostic: match over classes.
        left_out: [P] bool, predictions that take no part.
        iou_thresholds: each at least the smallest IoU that can match.
    """
    predicted, true = comparison.predictions, comparison.truth
    pairs = comparison.overlaps
    label = np.zeros_like(predicted.label) if agnostic else predicted.label
    rank = _rank(predicted.image, label, left_out)
    usable = (iou >= iou_thresholds.min()) & (rank[pairs.predicted] < MAX_DETECTIONS)
    if not agnostic:
        usable &= predicted.label[pairs.predicted] == true.label[pairs.true]
    p, t, value = pairs.predicted[usable], pairs.true[usable], iou[usable]
    true_of = np.full((len(iou_thresholds), len(predicted)), -1, np.int64)
    if not len(p):
        return CocoMatches(true_of, rank, iou_thresholds)

    # One row for each prediction with candidates, in the order in which it would take them.
    order = np.lexsort((-t, -value, ignored[t], p))
    p, t, value = p[order], t[order], value[order]
    rows, first, row_of = np.unique(p, return_index=True, return_inverse=True)
    slot = np.arange(len(p)) - first[row_of]
    candidate = np.full((len(rows), slot.max() + 1), len(true), np.int64)
    candidate_iou = np.zeros(candidate.shape)
    candidate[row_of, slot], candidate_iou[row_of, slot] = t, value

    # All images and classes at once: first their best predictions, then their second best, ...
    turn = _rank(predicted.image[rows], label[rows], None)
    limit = np.minimum(iou_thresholds, 1 - 1e-10)[:, None, None]
    stays_free = np.append(true.is_crowd, False)
    free = np.ones((len(iou_thresholds), len(true) + 1), np.bool_)
    free[:, -1] = False  # where a row has fewer candidates than another
    by_turn = np.argsort(turn, kind="stable")
    for now in np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]):
        fits = free[:, candidate[now]] & (candidate_iou[now] >= limit)  # [T, n, K]
        best = fits.argmax(axis=2)
        taken = candidate[now, best]
        found = np.take_along_axis(fits, best[..., None], axis=2)[..., 0]
        true_of[:, rows[now]] = np.where(found, taken, -1)
        threshold, which = np.nonzero(found)
        objects = taken[threshold, which]
        free[threshold, objects] = stays_free[objects]
    return CocoMatches(true_of, rank, iou_thresholds)


def _rank(image: NDArray, label: NDArray, left_out: BoolArray | None) -> Int64:
    """Count, for each of [P] sorted by image and score, those before it of its image and class."""
    if left_out is not None:
        rank = np.full(len(image), MAX_DETECTIONS, np.int64)
        rank[~left_out] = _rank(image[~left_out], label[~left_out], None)
        return rank
    order = np.lexsort((label, image))
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (np.diff(image[order]) != 0) | (np.diff(label[order]) != 0)
    position = np.arange(len(order))
    rank = np.empty(len(order), np.int64)
    rank[order] = position - np.maximum.accumulate(np.where(starts, position, 0))
    return rank
