"""All metrics of predictions against truth, under flat names ``<protocol>.<target>.<metric>``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from amodal_perception.evaluation import bootstrap, protocols
from amodal_perception.evaluation.alignment import align
from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.comparison import UNSTATED, Comparison, compare_files
from amodal_perception.evaluation.one_to_one_matching import (
    ImagePairs,
    match_one_to_one,
    pairs_by_image,
)
from amodal_perception.evaluation.protocols.coco import precision_recall, targets
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.predictions_file import RAW, SCENE

QUICK = ("coco", "order", "matched")
"""Protocols that cost little beside the model that is measured. Of these, `order` and `matched`
measure what the robot is told, and are left out of what the network gives."""

KINDS = {
    RAW: "what the network gives (raw)",
    SCENE: "what the robot is told (scene)",
    UNSTATED: "predictions that do not say whether they are raw or a scene",
}
"""What a figure is of, in words."""

HEADLINES = (
    *("coco.amodal_mask.AP", "coco.amodal_mask.AP50", "coco.visible_mask.AP"),
    *("orcnn.all.AP_AV", "orcnn.occluded.AP_AV", "orcnn.occluded.AP_IV50"),
    *("vrsp.amodal_mask.AP_occ85", "strict.amodal_mask.AP_occ85"),
    *("uoais.amodal_mask.overlap_F", "uoais.amodal_mask.boundary_F", "uoais.occlusion.F"),
    *("order.matched_pairs.accuracy", "order.end_to_end.F1"),
    *("calibration.amodal_mask.ECE", "matched.instances.precision", "matched.instances.recall"),
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions measured against truth.

    Attributes:
        metrics: figures by ``<protocol>.<target>.<metric>``: 0..1, and counts under ``counts.``.
        intervals: lowest and highest value of the 95 % interval of some figures.
        left_out: why protocols could not measure, by name.
        matches: the matched instances of every image.
        coco: COCO's precision and recall by target.
        comparison: what was measured.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    left_out: dict[str, str]
    matches: list[ImagePairs]
    coco: dict[str, PrecisionRecall]
    comparison: Comparison

    def as_json(self) -> dict[str, float | str]:
        """Return the figures, and first of all of what kind of predictions they are."""
        return {"predictions": self.comparison.kind, **self.metrics}


def rounded(evaluation: Evaluation) -> dict[str, float | str]:
    """Return `Evaluation.as_json` with six decimals, for summaries."""
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in evaluation.as_json().items()
    }


def evaluate(
    truth: AmodalCoco, predictions: AmodalCoco, names: Iterable[str] | None = QUICK
) -> dict[str, float]:
    """Measure predictions against truth.

    Every image of the truth counts, also one without predictions. Objects of which nothing is
    visible are ignored: finding them counts neither for nor against. Figures that the files
    cannot give (visible masks where either file has none, order without occlusions) are left out.

    Args:
        truth: what is there.
        predictions: what was found; images and categories may have other ids, see `align`.
        names: protocols; None takes all that the truth allows.

    Returns:
        Figures by name.

    Raises:
        DatasetError: images or classes the truth does not have, or a truth without objects.
    """
    return evaluate_aligned(truth, align(truth, predictions), names).metrics


def evaluate_aligned(
    truth: AmodalCoco,
    aligned: AmodalCoco,
    names: Iterable[str] | None = QUICK,
    *,
    replicates: int = 0,
    count_fully_hidden: bool = False,
) -> Evaluation:
    """Do what `evaluate` does with aligned predictions, and keep what the figures were made of.

    Args:
        truth: what is there.
        aligned: what was found, with the truth's ids, see `align`.
        names: protocols; None takes all that the truth allows.
        replicates: number of bootstrap draws for the intervals.
        count_fully_hidden: count objects of which nothing is visible, too, as COCO's code does.

    Raises:
        DatasetError: a truth without objects.
    """
    comparison = compare_files(truth, aligned, count_fully_hidden=count_fully_hidden)
    weighted, left_out = protocols.run_protocols(comparison, names)
    figures = {name: float(metric(None)) for name, metric in weighted.items()}
    metrics = {name: value for name, value in figures.items() if not math.isnan(value)}
    return Evaluation(
        metrics=metrics | counts(comparison),
        intervals=bootstrap.intervals(
            {name: weighted[name] for name in metrics}, len(comparison.image_ids), replicates
        )
        if replicates
        else {},
        left_out=left_out,
        matches=list(pairs_by_image(comparison, match_one_to_one(comparison))),
        coco={target: precision_recall(comparison, target) for target in targets(comparison)},
        comparison=comparison,
    )


def counts(comparison: Comparison) -> dict[str, float]:
    """Count the images and objects that were measured, and those that were not."""
    truth, predictions = comparison.truth, comparison.predictions
    return {
        "counts.truth.images": len(comparison.image_ids),
        "counts.truth.objects": int((~comparison.ignored).sum()),
        "counts.truth.occluded_objects": int((~comparison.ignored & (truth.hidden_px > 0)).sum()),
        "counts.truth.crowds": int(truth.is_crowd.sum()),
        "counts.truth.ignored_fully_hidden": int((comparison.ignored & ~truth.is_crowd).sum()),
        "counts.truth.occlusions": len(comparison.true_edges),
        "counts.predictions.objects": len(predictions),
        "counts.predictions.occlusions": len(comparison.predicted_edges),
        "counts.predictions.images_without": int((np.diff(predictions.first_of_image) == 0).sum()),
    }
