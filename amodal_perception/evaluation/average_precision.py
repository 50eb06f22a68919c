"""COCO's precision-recall curves, AP and AR, of predictions matched by `coco_matching`.

The regions' IoUs are pycocotools' own. Its accumulation is restated here so that it runs over
whole arrays: the same figures to the last digit (the tests compare the two with ``==``), many
times faster, and able to leave out or repeat images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.coco_matching import MAX_DETECTIONS, CocoMatches
from amodal_perception.evaluation.comparison import Comparison, Float64, Int64
from amodal_perception.evaluation.weighted_metrics import NAN, WeightedMetric, Weights
from amodal_perception.structures import BoolArray

RECALL_POINTS: Float64 = np.linspace(0.0, 1.0, 101, dtype=np.float64)


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
        comparison: the truth and predictions.
        matches: the predictions, matched.
        ignored: [T] bool, as given to `match_coco`.
        agnostic: as given to `match_coco`.
        forgiven: [P] bool, predictions that are ignored where they match nothing; None: none.
    """

    def __init__(
        self,
        comparison: Comparison,
        matches: CocoMatches,
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
        by_score = by_score[matches.within_max_detections[by_score]]
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
    def precision_unweighted(self) -> Float64:
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

    def ap(self, iou: float | None = None, *, label: int | None = None) -> WeightedMetric:
        """Return AP: the mean over IoUs and classes, or of one IoU, or of one class."""
        thresholds = slice(None) if iou is None else self._index(iou)
        classes = slice(None) if label is None else label

        def metric(weights: Weights | None = None) -> float:
            values = self.precision_unweighted if weights is None else self.precision(weights)
            return _mean(values[thresholds, ..., classes])

        return metric

    def ar(self, max_detections: int = MAX_DETECTIONS) -> WeightedMetric:
        """Return AR: the mean recall over classes and IoUs."""

        def metric(weights: Weights | None = None) -> float:
            return _mean(self.recall(weights, max_detections))

        return metric

    def curve(self, iou: float) -> Float64:
        """Return the [R] precision at the recall points, mean over classes."""
        at_iou = self.precision_unweighted[self._index(iou)]
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
