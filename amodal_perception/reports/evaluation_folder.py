"""Evaluate a file of predictions against truth: the folder with figures, intervals and report."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from amodal_perception import files
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation import bootstrap, protocols
from amodal_perception.evaluation.alignment import align, read_predictions
from amodal_perception.evaluation.evaluate import HEADLINES, KINDS, Evaluation, evaluate_aligned
from amodal_perception.reports.evaluation_report import write_evaluation_report
from amodal_perception.storage import amodal_coco

logger = logging.getLogger(__name__)
PARTNER_IOU = 0.5


def evaluate_files(
    truth_path: Path,
    predictions_path: Path,
    out_dir: Path,
    *,
    names: Iterable[str] | None = None,
    replicates: int = bootstrap.REPLICATES,
    count_fully_hidden: bool = False,
    images_dir: Path | None = None,
) -> Evaluation:
    """Measure a file of predictions; write figures and report.

    Writes ``metrics.json`` (every figure, and under ``predictions`` of what kind of predictions:
    ``raw``, ``scene`` or ``unstated``), ``intervals.json`` (95 % intervals) and
    ``report.html`` (tables, curves, pictures).

    Args:
        truth_path: amodal COCO.
        predictions_path: amodal COCO, or a plain COCO list of results.
        out_dir: folder, made where it is missing.
        names: protocols, all of which must be possible; None takes those that are.
        replicates: number of bootstrap draws; 0: no intervals.
        count_fully_hidden: count objects of which nothing is visible, too.
        images_dir: where the photographs are; None: beside the truth.

    Raises:
        DatasetError: a file that cannot be understood, or predictions of nothing.
    """
    names = None if names is None else list(names)
    protocols.check_names(names)
    if images_dir is not None and not images_dir.is_dir():
        raise DatasetError(f"{images_dir}: is no folder of photographs")
    truth = amodal_coco.read(Path(truth_path))
    predictions = read_predictions(Path(predictions_path), truth)
    if not predictions.annotations:
        raise DatasetError(f"{predictions_path}: holds no predictions")
    aligned = align(truth, predictions)
    evaluation = evaluate_aligned(
        truth, aligned, names, replicates=replicates, count_fully_hidden=count_fully_hidden
    )
    for name in names or ():
        if name in evaluation.left_out:
            raise DatasetError(f"protocol '{name}' cannot measure: {evaluation.left_out[name]}")
    out_dir = Path(out_dir)
    files.write_json(out_dir / "metrics.json", evaluation.as_json(), indent=1)
    files.write_json(out_dir / "intervals.json", evaluation.intervals, indent=1)
    missing = write_evaluation_report(
        out_dir / "report.html",
        evaluation,
        truth,
        aligned,
        images_dir or truth.path.parent,
    )
    if missing:
        logger.warning(
            "%d photographs of the report are not there or have another size, so masks are drawn "
            "on grey, the first: %s; name their folder by --images",
            len(missing),
            missing[0],
        )
    return evaluation


def headline_text(evaluation: Evaluation, out_dir: Path) -> str:
    """Return the headline figures, one to a line, and where all of them are."""
    comparison, metrics = evaluation.comparison, evaluation.metrics
    shown = [name for name in HEADLINES if name in metrics] or list(metrics)
    width = max(map(len, shown), default=0)
    lines = [
        f"{len(comparison.image_ids)} images, {len(comparison.truth)} true objects; figures of "
        f"{KINDS[comparison.kind]}"
    ]
    lines += [f"{name:<{width}}  {metrics[name]:.3f}" for name in shown]
    lines.append(_partners_text(evaluation))
    lines.append(f"{len(metrics)} figures: {Path(out_dir) / 'metrics.json'}")
    names_of: dict[str, list[str]] = {}
    for name, obstacle in evaluation.left_out.items():
        names_of.setdefault(obstacle, []).append(name)
    lines += [
        f"left out: {', '.join(names)}, because {obstacle}" for obstacle, names in names_of.items()
    ]
    return "\n".join(lines)


def _partners_text(evaluation: Evaluation) -> str:
    """Say how much of either file has nothing to be compared with in the other."""
    comparison, counts = evaluation.comparison, evaluation.metrics
    pairs = comparison.overlaps
    near = pairs.iou["amodal_mask"] >= PARTNER_IOU
    true, predicted = (
        np.bincount(side[near], minlength=len(objects)) == 0
        for side, objects in (
            (pairs.true, comparison.truth),
            (pairs.predicted, comparison.predictions),
        )
    )
    counted = ~comparison.ignored
    images, objects = len(comparison.image_ids), np.count_nonzero(counted)
    return (
        f"without a partner: {counts['counts.predictions.images_without']:.0f} of {images} images "
        f"have no prediction; {np.count_nonzero(true & counted)} of {objects} objects have none "
        f"with IoU {PARTNER_IOU:g}, {np.count_nonzero(predicted)} of {len(predicted)} predictions "
        "no object"
    )
