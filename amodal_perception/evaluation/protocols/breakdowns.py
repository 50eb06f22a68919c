"""AP, recall and mean IoU broken down by class, and by occlusion rate."""

from __future__ import annotations

import re

from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.one_to_one_matching import match_one_to_one
from amodal_perception.evaluation.protocols.coco import precision_recall, targets
from amodal_perception.evaluation.protocols.order import edges_found
from amodal_perception.evaluation.weighted_metrics import Ratio, WeightedMetrics
from amodal_perception.storage.predictions_file import RAW

HIDDEN_RANGES = {
    "0": (0.0, 0.0),
    "0_20": (0.0, 0.2),
    "20_40": (0.2, 0.4),
    "40_60": (0.4, 0.6),
    "60_80": (0.6, 0.8),
    "80_100": (0.8, 1.0),
}
"""Occlusion rates in percent by name: above the first number, up to the second; 0: none."""


def per_class(comparison: Comparison) -> WeightedMetrics:
    """Measure COCO's AP and AP50 of each class of which the truth has an object."""
    figures: WeightedMetrics = {}
    for target in targets(comparison):
        of_classes = precision_recall(comparison, target)
        for label, name in enumerate(comparison.class_names):
            key = f"{class_key(name)}.{target}"
            figures[f"{key}_AP"] = of_classes.ap(label=label)
            figures[f"{key}_AP50"] = of_classes.ap(0.5, label=label)
    return figures


def per_occlusion(comparison: Comparison) -> WeightedMetrics:
    """Measure AP, recall and mean IoU of the objects in each range of occlusion.

    AP counts every unmatched prediction as a false alarm in every range, as `strict` does, so it
    falls with the number of objects in the range, too; recall and mean IoU (score and amodal IoU
    of 0.5 at least) do not. `edge_recall` is of the edges that end at such an object.
    """
    truth, pairs = comparison.truth, comparison.overlaps
    matches = match_one_to_one(comparison)
    edge_is_found, (hiding, hidden) = edges_found(comparison, matches), comparison.true_edges.T
    figures: WeightedMetrics = {}
    for name, (low, high) in HIDDEN_RANGES.items():
        inside = truth.occlusion_rate <= high
        if high > 0:
            inside &= truth.occlusion_rate > low
        is_positive = inside & ~comparison.ignored
        if not is_positive.any():
            continue
        key = f"hidden_{name}"
        for target in targets(comparison):
            if target.endswith("mask"):
                found = match_coco(comparison, pairs.iou[target], ignored=~is_positive)
                precision_recall = PrecisionRecall(comparison, found, ignored=~is_positive)
                figures[f"{key}.{target}_AP"] = precision_recall.ap()
        pair = matches.pair[is_positive[pairs.true[matches.pair]]]
        image = truth.image[pairs.true[pair]]
        found_by_image = comparison.sum_by_image(image)
        positives_by_image = comparison.sum_by_image(truth.image[is_positive])
        figures[f"{key}.recall"] = Ratio(found_by_image, positives_by_image)
        for target in targets(comparison):
            if target.endswith("mask"):
                iou = comparison.sum_by_image(image, pairs.iou[target][pair])
                figures[f"{key}.{target}_mean_IoU"] = Ratio(iou, found_by_image)
        if comparison.truth_has_order and comparison.kind != RAW:
            edge = is_positive[hidden] & ~comparison.ignored[hiding]
            image = truth.image[hidden]
            figures[f"{key}.edge_recall"] = Ratio(
                comparison.sum_by_image(image[edge & edge_is_found]),
                comparison.sum_by_image(image[edge]),
            )
    return figures


def class_key(name: str) -> str:
    """Return a class's name as it stands in the names of figures: without dots and spaces."""
    return re.sub(r"[^\w-]+", "_", name)
