"""ORCNN's protocol (Follmann et al., WACV 2019, section 5): AP of amodal and visible masks.

``AP_A`` and ``AP_V`` are COCO's AP of the amodal and the visible mask, ``AP_AV`` that of both at
once, ``AP_IV50`` that of the invisible (hidden) part at IoU 0.5: ORCNN's third mask (z_IV) where
the predictions hold it, else the amodal mask less its visible part. The paper asks for an IoU
above the threshold; COCO's matcher, kept here, for one that reaches it.

``occluded`` ignores true objects of which nothing is hidden. For the masks that such an object
has in full, COCO's rule is not enough, so AP_V and AP_IV also leave out the predictions whose
amodal mask has IoU 0.5 with an ignored object. The paper leaves open which; here: those of the
same image and class that do not also reach 0.5 with an object that counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.coco_matching import match_coco
from amodal_perception.evaluation.comparison import Comparison, Float64
from amodal_perception.evaluation.weighted_metrics import Ratio, WeightedMetrics
from amodal_perception.structures import BoolArray

SAME_OBJECT_IOU = 0.5


def orcnn(comparison: Comparison) -> WeightedMetrics:
    """Measure the four APs over all and over occluded objects, with and without classes.

    Where predictions hold no visible masks, their amodal masks stand in for them, as the paper
    does for AmodalMRCNN, and there is no AP_IV; nor is there of a network with one mask.
    """
    figures: WeightedMetrics = {}
    for suffix, agnostic in (("", False), ("_class_agnostic", True)):
        figures |= {
            f"all{suffix}.{name}": metric
            for name, metric in _all_objects(comparison, comparison.ignored, agnostic).items()
        }
        figures |= {
            f"occluded{suffix}.{name}": metric
            for name, metric in _occluded(comparison, agnostic).items()
        }
    is_stuff = stuff(comparison)
    if is_stuff is not None:
        for name, others in (("things", is_stuff), ("stuff", ~is_stuff)):
            ignored = comparison.ignored | others
            if not ignored.all():
                kinds = _all_objects(comparison, ignored, agnostic=True)
                figures |= {f"{name}.{key}": metric for key, metric in kinds.items()}
    return figures


def stuff(comparison: Comparison) -> BoolArray | None:
    """Return which true objects are stuff (COCOA's ``isstuff``); None where that is not stored."""
    rows = comparison.truth.rows
    if not all("isstuff" in row for row in rows):
        return None
    return np.array([bool(row["isstuff"]) for row in rows], np.bool_)


def _all_objects(comparison: Comparison, ignored: BoolArray, agnostic: bool) -> WeightedMetrics:
    iou = comparison.overlaps.iou
    curves = {
        name: _curve(comparison, value, ignored, agnostic)
        for name, value in (
            ("A", iou["amodal_mask"]),
            ("V", iou["visible_mask"]),
            ("AV", np.minimum(iou["amodal_mask"], iou["visible_mask"])),
        )
    }
    figures: WeightedMetrics = {f"AP_{name}": curve.ap() for name, curve in curves.items()}
    return figures | {"AR_A": curves["A"].ar()}


def _occluded(comparison: Comparison, agnostic: bool) -> WeightedMetrics:
    iou = comparison.overlaps.iou
    ignored = comparison.ignored | (comparison.truth.hidden_px == 0)
    if ignored.all():
        return {}
    left_out, ambiguous = _left_out(comparison, ignored, agnostic)
    both = np.minimum(iou["amodal_mask"], iou["visible_mask"])
    figures: WeightedMetrics = {
        "AP_A": _curve(comparison, iou["amodal_mask"], ignored, agnostic).ap(),
        "AP_V": _curve(comparison, iou["visible_mask"], ignored, agnostic, left_out).ap(),
        "AP_AV": _curve(comparison, both, ignored, agnostic).ap(),
    }
    if comparison.predictions_have_visible and not comparison.one_mask:
        hidden = _curve(comparison, iou["occluded_mask"], ignored, agnostic, left_out)
        figures["AP_IV50"] = hidden.ap(0.5)
    image = comparison.predictions.image
    everything = comparison.sum_by_image(image)
    figures["left_out_share"] = Ratio(comparison.sum_by_image(image[left_out]), everything)
    figures["ambiguous_share"] = Ratio(comparison.sum_by_image(image[ambiguous]), everything)
    return figures


def _curve(
    comparison: Comparison,
    iou: Float64,
    ignored: BoolArray,
    agnostic: bool,
    left_out: BoolArray | None = None,
) -> PrecisionRecall:
    matches = match_coco(comparison, iou, ignored=ignored, agnostic=agnostic, left_out=left_out)
    return PrecisionRecall(comparison, matches, ignored=ignored, agnostic=agnostic)


def _left_out(
    comparison: Comparison, ignored: BoolArray, agnostic: bool
) -> tuple[BoolArray, BoolArray]:
    """Find predictions of ignored objects: [P] bool those of nothing else, and those of both."""
    pairs, predicted = comparison.overlaps, comparison.predictions
    same = pairs.iou["amodal_mask"] >= SAME_OBJECT_IOU
    if not agnostic:
        same &= predicted.label[pairs.predicted] == comparison.truth.label[pairs.true]
    of_ignored = _any(pairs.predicted[same & ignored[pairs.true]], len(predicted))
    of_asked = _any(pairs.predicted[same & ~ignored[pairs.true]], len(predicted))
    return of_ignored & ~of_asked, of_ignored & of_asked


def _any(indices: NDArray, count: int) -> BoolArray:
    flags = np.zeros(count, np.bool_)
    flags[indices] = True
    return flags
