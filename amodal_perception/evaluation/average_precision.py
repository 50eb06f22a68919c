"""COCO's matching, precision-recall curves and AP, for any IoU and any rule of what is ignored.

The regions' IoUs are pycocotools' own. Its matching and accumulation are restated here so that
they run over whole arrays: the same figures to the last digit (the tests compare the two with
``==``), many times faster, and able to leave out or repeat images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.comparison import Comparison, Float64, Int64
from amodal_perception.evaluation.measures import NAN, Measure, Weights
from amodal_perception.structures import BoolArray

IOU_THRESHOLDS: Float64 = np.linspace(0.5, 0.95, 10, dtype=np.float64)
RECALL_POINTS: Float64 = np.linspace(0.0, 1.0, 101, dtype=np.float64)
MAX_DETECTIONS = 100
"""Per image and class, as in COCO."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Predictions matched to true objects, at each of T IoU thresholds.

    Attributes:
        true_of: [T, P] int64, the true object of each prediction, or -1.
        rank: [P] int64, place among the predictions of its image and class, best score first;
            `MAX_DETECTIONS` or more takes no part.
        iou_thresholds: [T] float64.
    """

    true_of: Int64
    rank: Int64
    iou_thresholds: Float64

    @property
    def takes_part(self) -> BoolArray:
        """[P] bool."""
        return self.rank < MAX_DETECTIONS


def match(
    comparison: Comparison,
    iou: Float64,
    *,
    ignored: BoolArray,
    agnostic: bool = False,
    left_out: BoolArray | None = None,
    iou_thresholds: Float64 = IOU_THRESHOLDS,
) -> Matches:
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
        return Matches(true_of, rank, iou_thresholds)

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
    return Matches(true_of, rank, iou_thresholds)


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


@dataclass(frozen=True, eq=False)
class _ClassCurve:
    """Detections of one class at all thresholds, to be weighted by image.

    Attributes:
        image: [N] image of each prediction, best score first.
        rank: [N] place within its image.
        hits: for each threshold the places, in `image`, of predictions that found something.
        counted: for each threshold [N] bool, predictions that are not ignored; None: all.
        true_image: [M] image of each true object that counts.
    """

    image: NDArray
    rank: NDArray
    hits: list[Int64]
    counted: list[BoolArray | None]
    true_image: NDArray


class PrecisionRecall:
    """Precision-recall curves by threshold and class, as COCO accumulates them.

    Args:
        comparison: what was matched.
        matches: how.
        ignored: [T] bool, as given to `match`.
        agnostic: as given to `match`.
        forgiven: [P] bool, predictions that are ignored where they match nothing; None: none.
    """

    def __init__(
        self,
        comparison: Comparison,
        matches: Matches,
        *,
        ignored: BoolArray,
        agnostic: bool = False,
        forgiven: BoolArray | None = None,
    ) -> None:
        predicted, true = comparison.predictions, comparison.truth
        self.iou_thresholds = matches.iou_thresholds
        found = matches.true_of >= 0
        hit = found & ~np.append(ignored, False)[matches.true_of]
        counted = hit | ~found
        if forgiven is not None:
            counted &= found | ~forgiven
        by_score = np.argsort(-predicted.score, kind="stable")
        by_score = by_score[matches.takes_part[by_score]]
        num_classes = 1 if agnostic else len(comparison.class_names)
        predicted_label, true_label = predicted.label[by_score], true.label
        self.classes: list[_ClassCurve] = []
        for label in range(num_classes):
            mine = by_score if agnostic else by_score[predicted_label == label]
            is_positive = ~ignored if agnostic else ~ignored & (true_label == label)
            self.classes.append(
                _ClassCurve(
                    image=predicted.image[mine],
                    rank=matches.rank[mine],
                    hits=[np.flatnonzero(row) for row in hit[:, mine]],
                    counted=[None if row.all() else row for row in counted[:, mine]],
                    true_image=true.image[is_positive],
                )
            )

    @cached_property
    def once(self) -> Float64:
        """[T, R, K] precision with every image counted once; see `precision`."""
        return self.precision(None)

    def precision(self, weights: Weights | None) -> Float64:
        """Return [T, R, K] precision at `RECALL_POINTS`; NaN for classes without truth."""
        result = np.zeros((len(self.iou_thresholds), len(RECALL_POINTS), len(self.classes)))
        for k, curve in enumerate(self.classes):
            num_positives = _count(curve.true_image, weights)
            if num_positives == 0:
                result[:, :, k] = NAN
                continue
            times = np.ones(len(curve.image)) if weights is None else weights[curve.image]
            seen = np.cumsum(times)
            for t, hits in enumerate(curve.hits):
                counted = curve.counted[t]
                so_far = seen if counted is None else np.cumsum(np.where(counted, times, 0))
                result[t, :, k] = _interpolated(
                    so_far[hits], np.cumsum(times[hits]), num_positives
                )
        return result

    def recall(self, weights: Weights | None, max_detections: int = MAX_DETECTIONS) -> Float64:
        """Return [T, K] recall with so many predictions an image; NaN for classes without."""
        result = np.full((len(self.iou_thresholds), len(self.classes)), NAN)
        for k, curve in enumerate(self.classes):
            num_positives = _count(curve.true_image, weights)
            if num_positives:
                for t, hits in enumerate(curve.hits):
                    few = hits[curve.rank[hits] < max_detections]
                    result[t, k] = _count(curve.image[few], weights) / num_positives
        return result

    def ap(self, iou: float | None = None, *, label: int | None = None) -> Measure:
        """Return the measure AP: mean over IoUs and classes, or of one IoU, or of one class."""
        thresholds = slice(None) if iou is None else self._index(iou)
        classes = slice(None) if label is None else label

        def measure(weights: Weights | None = None) -> float:
            values = self.once if weights is None else self.precision(weights)
            return _mean(values[thresholds, ..., classes])

        return measure

    def ar(self, max_detections: int = MAX_DETECTIONS) -> Measure:
        """Return the measure AR: mean recall over classes and IoUs."""

        def measure(weights: Weights | None = None) -> float:
            return _mean(self.recall(weights, max_detections))

        return measure

    def curve(self, iou: float) -> Float64:
        """Return the [R] precision at the recall points, mean over classes."""
        at_iou = self.once[self._index(iou)]
        return at_iou[:, ~np.isnan(at_iou).any(axis=0)].mean(axis=1)

    @property
    def recall_points(self) -> Float64:
        """[R] 0..1."""
        return RECALL_POINTS

    def _index(self, iou: float) -> int:
        return int(np.argmin(np.abs(self.iou_thresholds - iou)))


def _interpolated(seen: Float64, right: Float64, num_positives: float) -> NDArray[np.float64]:
    """Return COCO's interpolated precision at the recall points.

    Precision falls between hits, so the highest precision at a recall or beyond is that of a hit.

    Args:
        seen: [H] number of predictions that count, up to each hit.
        right: [H] number of hits up to each.
        num_positives: number of true objects.
    """
    precision = right / (seen + np.spacing(1))
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / num_positives, RECALL_POINTS, side="left")
    return np.append(best_from_here, 0.0)[at]


def _count(image: NDArray, weights: Weights | None) -> float:
    return float(len(image) if weights is None else weights[image].sum())


def _mean(values: NDArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else NAN
