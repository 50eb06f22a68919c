"""Precision, recall and mean IoU of objects matched one to one."""

from __future__ import annotations

import numpy as np

from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.one_to_one_matching import match_one_to_one
from amodal_perception.evaluation.weighted_metrics import Ratio, WeightedMetrics
from amodal_perception.structures import BoolArray


def matched(comparison: Comparison) -> WeightedMetrics:
    """Measure predictions with a score of 0.5 at least, and objects, paired at amodal IoU 0.5.

    Recall and precision, and the mean IoU of the pairs' amodal, visible and hidden masks (the
    last where something is hidden in truth).
    """
    truth, predictions, pairs = comparison.truth, comparison.predictions, comparison.overlaps
    matches = match_one_to_one(comparison)
    t = pairs.true[matches.pair]
    image = truth.image[t]
    found = comparison.sum_by_image(image)
    num_true = comparison.sum_by_image(truth.image[~comparison.ignored])
    counted = matches.is_sure & ~np.append(comparison.ignored, False)[matches.true_of]
    figures: WeightedMetrics = {
        "instances.recall": Ratio(found, num_true),
        "instances.precision": Ratio(found, comparison.sum_by_image(predictions.image[counted])),
    }
    is_hidden = truth.hidden_px[t] > 0
    kinds: dict[str, BoolArray] = {"amodal_mask": np.ones(len(t), np.bool_)}
    if comparison.truth_has_visible and comparison.predictions_have_visible:
        kinds |= {"visible_mask": np.ones(len(t), np.bool_), "hidden_mask": is_hidden}
    for kind, is_counted in kinds.items():
        iou = pairs.iou[kind][matches.pair][is_counted]
        figures[f"{kind}.mean_IoU"] = Ratio(
            comparison.sum_by_image(image[is_counted], iou),
            comparison.sum_by_image(image[is_counted]),
        )
    return figures
