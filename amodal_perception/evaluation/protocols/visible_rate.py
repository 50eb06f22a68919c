"""AP of occluded objects by visible rate: `vrsp` as published, and `strict`.

VRSP (Xiao et al., AAAI 2021), and PGExp and AISFormer after it, run COCO's code with the visible
rate (visible share of the amodal mask) in the place of the area, and the range 0 to 0.85 in that
of small objects. Truth in plainer view is ignored. So is every prediction that matches nothing
and predicts for itself a visible rate above the bound: a model escapes false alarms by calling
them unoccluded. `strict` counts each prediction that matches nothing as a false alarm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.protocols.coco import targets
from amodal_perception.evaluation.weighted_metrics import WeightedMetrics

BOUNDS = {"occ85": 0.85, "occ75": 0.75, "occ60": 0.60}
"""Visible rate up to which an object counts as occluded, both ends of the range included."""


def vrsp(comparison: Comparison) -> WeightedMetrics:
    """Measure AP by visible rate as VRSP's code does; ``AP_occ85`` is the papers' AP-occ."""
    return _figures(comparison, forgive=True)


def strict(comparison: Comparison) -> WeightedMetrics:
    """Measure AP by visible rate with every unmatched prediction a false alarm."""
    return _figures(comparison, forgive=False)


def _figures(comparison: Comparison, *, forgive: bool) -> WeightedMetrics:
    truth = comparison.truth
    true_rate = (truth.amodal_px - truth.hidden_px) / np.maximum(truth.amodal_px, 1)
    figures: WeightedMetrics = {}
    for target in targets(comparison):
        for name, bound in BOUNDS.items():
            ignored = comparison.ignored | (true_rate > bound)
            if ignored.all():
                continue
            matches = match_coco(comparison, comparison.overlaps.iou[target], ignored=ignored)
            curve = PrecisionRecall(
                comparison,
                matches,
                ignored=ignored,
                forgiven=predicted_rate(comparison) > bound if forgive else None,
            )
            figures |= {
                f"{target}.AP_{name}": curve.ap(),
                f"{target}.AP50_{name}": curve.ap(0.5),
                f"{target}.AR_{name}": curve.ar(),
            }
    return figures


def predicted_rate(comparison: Comparison) -> NDArray[np.float64]:
    """Return the [P] visible rates that predictions claim, in the published code's float32.

    The rounding matters at the bound: 85 of 100 pixels are 0.85000002 and so not occluded. An
    empty amodal mask has no rate (NaN) and is never forgiven.
    """
    objects = comparison.predictions
    seen = (objects.amodal_px - objects.hidden_px).astype(np.float32)
    with np.errstate(invalid="ignore"):
        return (seen / objects.amodal_px.astype(np.float32)).astype(np.float64)
