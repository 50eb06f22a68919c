"""COCO's own protocol: AP and AR of amodal and visible masks and boxes, over sizes."""

from __future__ import annotations

import numpy as np

from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import TARGETS, Comparison, Float64
from amodal_perception.evaluation.weighted_metrics import WeightedMetrics

SIZES_PX2 = {"s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
"""Objects of which COCO's ``area`` lies in the range, both ends included."""


def coco(comparison: Comparison) -> WeightedMetrics:
    """Measure all of pycocotools' twelve figures for each target.

    True objects are sorted by size with COCO's ``area`` where the truth stores it (visible
    targets: the visible area), predictions with the area of what is compared.
    """
    figures: WeightedMetrics = {}
    for target in targets(comparison):
        overall = precision_recall(comparison, target)
        figures |= {
            f"{target}.AP": overall.ap(),
            f"{target}.AP50": overall.ap(0.50),
            f"{target}.AP75": overall.ap(0.75),
            f"{target}.AR1": overall.ar(1),
            f"{target}.AR10": overall.ar(10),
            f"{target}.AR100": overall.ar(100),
        }
        true_area, predicted_area = areas_px2(comparison, target)
        for size, (low, high) in SIZES_PX2.items():
            ignored = comparison.ignored | (true_area < low) | (true_area > high)
            matches = match_coco(comparison, comparison.overlaps.iou[target], ignored=ignored)
            part = PrecisionRecall(
                comparison,
                matches,
                ignored=ignored,
                forgiven=(predicted_area < low) | (predicted_area > high),
            )
            figures |= {f"{target}.AP{size}": part.ap(), f"{target}.AR{size}": part.ar()}
    return figures


def targets(comparison: Comparison) -> list[str]:
    """List what the files let be compared."""
    has_visible = comparison.truth_has_visible and comparison.predictions_have_visible
    return [target for target in TARGETS if has_visible or not target.startswith("visible")]


def precision_recall(comparison: Comparison, target: str) -> PrecisionRecall:
    """Return precision and recall of a target over all sizes."""
    ignored = comparison.ignored
    matches = match_coco(comparison, comparison.overlaps.iou[target], ignored=ignored)
    return PrecisionRecall(comparison, matches, ignored=ignored)


def areas_px2(comparison: Comparison, target: str) -> tuple[Float64, Float64]:
    """Return the areas, in square pixels, by which true and predicted objects are sorted."""
    true, predicted = comparison.truth, comparison.predictions
    true_area = true.visible_px if target.startswith("visible") else true.area
    if target.endswith("box"):
        visible = target == "visible_box"
        boxes = predicted.visible_box_xywh if visible else predicted.amodal_box_xywh
        return true_area.astype(np.float64), boxes[:, 2] * boxes[:, 3]
    predicted_area = predicted.visible_px if target == "visible_mask" else predicted.amodal_px
    return true_area.astype(np.float64), predicted_area.astype(np.float64)
