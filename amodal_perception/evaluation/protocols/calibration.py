"""Calibration of scores: expected calibration error (ECE), Brier score, reliability diagram.

Right is what COCO counts as found at IoU 0.5; predictions of ignored objects take no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison, Float64
from amodal_perception.evaluation.protocols.coco import targets
from amodal_perception.evaluation.weighted_metrics import NAN, Ratio, WeightedMetrics, Weights

BINS = 10
IOU = 0.5


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: scores and outcomes in BINS bins of equal width, 1 in the last.

    Attributes:
        count, score, right: [I, BINS] number of predictions, sum of scores, number right.
    """

    count: Float64
    score: Float64
    right: Float64

    def __call__(self, weights: Weights | None = None) -> float:
        """Return the expected calibration error (Guo et al., ICML 2017), 0..1."""
        count, score, right = self.totals(weights)
        return float(np.abs(score - right).sum() / count.sum()) if count.any() else NAN

    def totals(self, weights: Weights | None = None) -> tuple[Float64, Float64, Float64]:
        """Sum over images: three of [BINS]."""
        parts = self.count, self.score, self.right
        return tuple(  # type: ignore[return-value]
            part.sum(axis=0) if weights is None else weights @ part for part in parts
        )


def calibration(comparison: Comparison) -> WeightedMetrics:
    """Measure the expected calibration error and the Brier score of each target."""
    figures: WeightedMetrics = {}
    for target in targets(comparison):
        image, score, right = _outcomes(comparison, target)
        figures[f"{target}.ECE"] = _binned(comparison, image, score, right)
        figures[f"{target}.Brier"] = Ratio(
            comparison.sum_by_image(image, (score - right) ** 2), comparison.sum_by_image(image)
        )
    return figures


def reliability(comparison: Comparison, target: str) -> Reliability:
    """Sort a target's predictions into bins of score."""
    return _binned(comparison, *_outcomes(comparison, target))


def _outcomes(comparison: Comparison, target: str) -> tuple[np.ndarray, Float64, Float64]:
    """Return image, score (0..1) and 1 or 0 for right or wrong, of [N] counted predictions."""
    predicted = comparison.predictions
    matches = match_coco(
        comparison,
        comparison.overlaps.iou[target],
        ignored=comparison.ignored,
        iou_thresholds=np.array([IOU]),
    )
    true_of = matches.true_of[0]
    counted = matches.within_max_detections & ~np.append(comparison.ignored, False)[true_of]
    score = np.clip(predicted.score, 0, 1)
    return predicted.image[counted], score[counted], (true_of[counted] >= 0).astype(np.float64)


def _binned(
    comparison: Comparison, image: np.ndarray, score: Float64, right: Float64
) -> Reliability:
    shape = len(comparison.image_ids), BINS
    place = image * BINS + np.minimum((score * BINS).astype(np.int64), BINS - 1)
    sums = (
        np.bincount(place, values, minlength=shape[0] * BINS).reshape(shape).astype(np.float64)
        for values in (None, score, right)
    )
    count, score_sum, right_sum = sums
    return Reliability(count, score_sum, right_sum)
