"""Mean IoU by level of occlusion, each object prompted by a box: BLADE and Bayesian-Amodal.

Sun et al. (CVPR 2022) and Liu et al. (BLADE, AAAI 2024) give the model the box of an object and
score the mask it returns. A file of predictions has no box to answer to; here the answer is the
prediction whose box fits that one best, as Bayesian-Amodal's code does with its detector's
boxes. An object without any overlapping prediction scores 0.

- ``blade``: among predictions of the object's class, by the visible box;
- ``bayesian_amodal``: among all; the IoU counts 0 where the class is wrong;
  ``known_center`` prompts by the amodal box instead.

``mean`` is the unweighted mean over the levels that have objects, as in both papers' tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amodal_perception.evaluation.comparison import Comparison, Float64
from amodal_perception.evaluation.weighted_metrics import (
    MeanOf,
    Ratio,
    WeightedMetric,
    WeightedMetrics,
)
from amodal_perception.structures import BoolArray

MASKS = ("amodal_mask", "visible_mask", "hidden_mask")
CORRECT_IOU = 0.5


@dataclass(frozen=True)
class Bounds:
    """A data set's levels of occlusion, and the objects it selects.

    Attributes:
        levels: lowest and highest occlusion rate of FG-0, FG-1, ..., both included.
        classes: names of the classes that take part; empty: all.
        min_height_px: lowest height of the amodal box.
    """

    levels: tuple[tuple[float, float], ...]
    classes: tuple[str, ...] = ()
    min_height_px: float = 0


_KINS = ((0.0, 0.0), (0.0001, 0.3), (0.3001, 0.6), (0.6001, 0.9))
_COCOA_CLS = ((0.0, 0.0), (0.0001, 0.2), (0.2, 0.4), (0.4, 0.7))
BOUNDS = {
    "kins": Bounds(_KINS, ("cyclist", "car", "tram", "truck", "van"), 50),
    "cocoa_cls": Bounds(_COCOA_CLS, ("airplane", "bicycle", "bus", "car", "motorcycle")),
    "kins_levels": Bounds(_KINS),
    "cocoa_cls_levels": Bounds(_COCOA_CLS),
}
"""The published selections, and their levels with every class and height."""


def blade(comparison: Comparison) -> WeightedMetrics:
    """Measure the prediction of the right class that fits the visible box best."""
    pairs = comparison.overlaps
    same = comparison.predictions.label[pairs.predicted] == comparison.truth.label[pairs.true]
    iou = _best_prediction_iou(comparison, np.where(same, pairs.iou["visible_box"], 0))
    return _by_level(comparison, iou, "")


def bayesian_amodal(comparison: Comparison) -> WeightedMetrics:
    """Measure the prediction that fits the box best; a wrong class scores 0."""
    figures: WeightedMetrics = {}
    for box, suffix in (("visible_box", ""), ("amodal_box", "_known_center")):
        iou = _best_prediction_iou(comparison, comparison.overlaps.iou[box])
        figures |= _by_level(comparison, iou, suffix)
    return figures


def _best_prediction_iou(comparison: Comparison, fit: Float64) -> dict[str, Float64]:
    """Find each true object's best fitting prediction: its [T] IoU by mask; 0 where none fits."""
    pairs, truth = comparison.overlaps, comparison.truth
    order = np.lexsort((pairs.predicted, -fit, pairs.true))  # ties: the better score
    order = order[fit[order] > 0]
    objects, first = np.unique(pairs.true[order], return_index=True)
    chosen = order[first]
    right = comparison.predictions.label[pairs.predicted[chosen]] == truth.label[objects]
    iou: dict[str, Float64] = {}
    for mask in MASKS:
        iou[mask] = np.zeros(len(truth))
        iou[mask][objects] = pairs.iou[mask][chosen] * right
    return iou


def _by_level(comparison: Comparison, iou: dict[str, Float64], suffix: str) -> WeightedMetrics:
    figures: WeightedMetrics = {}
    masks = MASKS[: 1 + comparison.predictions_have_visible + comparison.claims_hidden]
    for name, selection, levels in _selections(comparison):
        for mask in masks:
            by_level = {}
            for level, inside in levels.items():
                chosen = selection & inside
                if mask == "hidden_mask":
                    chosen &= comparison.truth.hidden_px > 0
                if chosen.any():
                    by_level[level] = _mean(comparison, chosen, iou[mask])
                    if mask == "amodal_mask":
                        right = (iou[mask] >= CORRECT_IOU).astype(np.float64)
                        figures[f"{name}{suffix}.precision50_{level}"] = _mean(
                            comparison, chosen, right
                        )
            figures |= {
                f"{name}{suffix}.{mask}_mIoU_{level}": metric for level, metric in by_level.items()
            }
            if by_level:
                figures[f"{name}{suffix}.{mask}_mIoU_mean"] = MeanOf(list(by_level.values()))
    return figures


def _selections(
    comparison: Comparison,
) -> Iterator[tuple[str, BoolArray, dict[str, BoolArray]]]:
    """Yield names, [T] bool selections and their levels, of what the truth allows."""
    truth = comparison.truth
    class_names = np.array(comparison.class_names)
    for name, bounds in BOUNDS.items():
        if not set(bounds.classes) <= set(comparison.class_names):
            continue
        selection = ~comparison.ignored & (truth.amodal_box_xywh[:, 3] >= bounds.min_height_px)
        if bounds.classes:
            selection &= np.isin(class_names[truth.label], bounds.classes)
        rate = truth.occlusion_rate
        levels = {
            f"FG{i}": (rate >= low) & (rate <= high) for i, (low, high) in enumerate(bounds.levels)
        }
        yield name, selection, levels
    rows = truth.rows
    if all("foreground_level" in row and "background_level" in row for row in rows):
        # OccludedVehicles sorts its objects itself, by what covers them and their surroundings.
        cells = [(int(row["foreground_level"]), int(row["background_level"])) for row in rows]
        foreground, background = np.array(cells).reshape(-1, 2).T
        levels = {
            f"FG{f}_BG{b}": (foreground == f) & (background == b) for f, b in sorted(set(cells))
        }
        yield "occluded_vehicles", ~comparison.ignored, levels


def _mean(comparison: Comparison, chosen: BoolArray, values: Float64) -> WeightedMetric:
    image = comparison.truth.image[chosen]
    return Ratio(comparison.sum_by_image(image, values[chosen]), comparison.sum_by_image(image))
