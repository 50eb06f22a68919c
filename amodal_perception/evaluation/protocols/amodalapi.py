"""COCOA's protocol (Zhu et al., CVPR 2017) as in its amodalAPI: no classes, ranges of occlusion.

Regions outside the range, or not of the kind measured, are ignored; every prediction that
matches nothing is a false alarm in every range.
"""

from __future__ import annotations

import numpy as np

from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.protocols.coco import targets
from amodal_perception.evaluation.protocols.orcnn import stuff
from amodal_perception.evaluation.weighted_metrics import WeightedMetrics
from amodal_perception.structures import BoolArray

RANGES = {"": (0.0, 1.0), "_none": (0.0, 1e-5), "_partial": (1e-5, 0.25), "_heavy": (0.25, 1.0)}
"""Occlusion rates by name, both ends included."""


def amodalapi(comparison: Comparison) -> WeightedMetrics:
    """Measure AP and AR at 1, 10 and 100 by occlusion, for all regions, things and stuff.

    Things and stuff are told apart where the truth says ``isstuff``.
    """
    is_stuff = stuff(comparison)
    kinds: dict[str, BoolArray] = {"": np.zeros(len(comparison.truth), np.bool_)}
    if is_stuff is not None:
        kinds |= {"_things": is_stuff, "_stuff": ~is_stuff}
    rate = comparison.truth.occlusion_rate
    figures: WeightedMetrics = {}
    for target in targets(comparison):
        if target.endswith("box"):
            continue
        for kind, other_kind in kinds.items():
            for name, (low, high) in RANGES.items():
                ignored = comparison.ignored | other_kind | (rate < low) | (rate > high)
                if ignored.all():
                    continue
                matches = match_coco(
                    comparison, comparison.overlaps.iou[target], ignored=ignored, agnostic=True
                )
                curve = PrecisionRecall(comparison, matches, ignored=ignored, agnostic=True)
                figures |= {
                    f"{target}{kind}.AP{name}": curve.ap(),
                    f"{target}{kind}.AP50{name}": curve.ap(0.50),
                    f"{target}{kind}.AP75{name}": curve.ap(0.75),
                    f"{target}{kind}.AR1{name}": curve.ar(1),
                    f"{target}{kind}.AR10{name}": curve.ar(10),
                    f"{target}{kind}.AR100{name}": curve.ar(100),
                }
    return figures
