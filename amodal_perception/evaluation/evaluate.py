"""All metrics of predictions against truth, under flat names ``<protocol>.<target>.<metric>``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodal_perception import files
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation import bootstrap, protocols
from amodal_perception.evaluation.alignment import align, read_predictions
from amodal_perception.evaluation.average_precision import PrecisionRecall
from amodal_perception.evaluation.comparison import Comparison, compare
from amodal_perception.evaluation.matching import ImageMatches, by_image, match_objects
from amodal_perception.evaluation.protocols.coco import curve, targets
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco

QUICK = ("coco", "order", "matched")
"""Protocols that cost little beside the model that is measured."""

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
    matches: list[ImageMatches]
    coco: dict[str, PrecisionRecall]
    comparison: Comparison


def evaluate(
    truth: AmodalCoco, predictions: AmodalCoco, names: Iterable[str] | None = QUICK
) -> dict[str, float]:
    """Measure predictions against truth.

    Every image of the truth counts, also one without predictions. Objects of which nothing is
    visible are ignored: finding them is neither asked for nor punished. Figures that the files
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
    return evaluate_in_detail(truth, predictions, names).metrics


def evaluate_in_detail(
    truth: AmodalCoco,
    predictions: AmodalCoco,
    names: Iterable[str] | None = QUICK,
    *,
    replicates: int = 0,
    count_fully_hidden: bool = False,
) -> Evaluation:
    """Do what `evaluate` does, and keep what the figures were made of.

    Args:
        truth: what is there.
        predictions: what was found.
        names: protocols; None takes all that the truth allows.
        replicates: number of bootstrap draws for the intervals.
        count_fully_hidden: ask for objects of which nothing is visible, too, as COCO's code does.
    """
    comparison = compare(truth, align(truth, predictions), count_fully_hidden=count_fully_hidden)
    measures, left_out = protocols.measure(comparison, names)
    figures = {name: float(measure(None)) for name, measure in measures.items()}
    metrics = {name: value for name, value in figures.items() if not math.isnan(value)}
    return Evaluation(
        metrics=metrics | counts(comparison),
        intervals=bootstrap.intervals(
            {name: measures[name] for name in metrics}, len(comparison.image_ids), replicates
        )
        if replicates
        else {},
        left_out=left_out,
        matches=list(by_image(comparison, match_objects(comparison))),
        coco={target: curve(comparison, target) for target in targets(comparison)},
        comparison=comparison,
    )


def counts(comparison: Comparison) -> dict[str, float]:
    """Count what was measured, and what was not."""
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


def evaluate_files(
    truth_path: Path,
    predictions_path: Path,
    out_dir: Path,
    *,
    names: Iterable[str] | None = None,
    replicates: int = bootstrap.REPLICATES,
    count_fully_hidden: bool = False,
    images_dir: Path | None = None,
) -> dict[str, float]:
    """Measure a file of predictions; write figures and report, and print the headlines.

    Writes ``metrics.json`` (every figure), ``intervals.json`` (95 % intervals) and
    ``report.html`` (tables, curves, pictures).

    Args:
        truth_path: amodal COCO.
        predictions_path: amodal COCO, or a plain COCO list of results.
        out_dir: folder, made where it is missing.
        names: protocols, all of which must be possible; None takes those that are.
        replicates: number of bootstrap draws; 0: no intervals.
        count_fully_hidden: ask for objects of which nothing is visible, too.
        images_dir: where the photographs are; None: beside the truth.

    Raises:
        DatasetError: a file that cannot be understood, or predictions of nothing.
    """
    from amodal_perception.reports.evaluation_report import write_score_report

    names = None if names is None else list(names)
    protocols.check_names(names)
    truth = amodal_coco.read(Path(truth_path))
    predictions = read_predictions(Path(predictions_path), truth)
    if not predictions.annotations:
        raise DatasetError(f"{predictions_path}: holds no predictions")
    evaluation = evaluate_in_detail(
        truth,
        predictions,
        names,
        replicates=replicates,
        count_fully_hidden=count_fully_hidden,
    )
    for name in names or ():
        if name in evaluation.left_out:
            raise DatasetError(f"protocol '{name}' cannot measure: {evaluation.left_out[name]}")
    out_dir = Path(out_dir)
    files.write_json(out_dir / "metrics.json", evaluation.metrics, indent=1)
    files.write_json(out_dir / "intervals.json", evaluation.intervals, indent=1)
    write_score_report(
        out_dir / "report.html",
        evaluation,
        truth,
        align(truth, predictions),
        images_dir or Path(truth_path).parent,
    )
    print(f"{len(truth.images)} images, {len(truth.annotations)} true objects")
    shown = [name for name in HEADLINES if name in evaluation.metrics] or evaluation.metrics
    print_metrics({name: evaluation.metrics[name] for name in shown})
    print(f"{len(evaluation.metrics)} figures: {out_dir / 'metrics.json'}")
    for name, obstacle in evaluation.left_out.items():
        print(f"left out: {name}, because {obstacle}")
    return evaluation.metrics


def print_metrics(metrics: dict[str, float]) -> None:
    """Print figures, one to a line."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:<{width}}  {value:.3f}")
