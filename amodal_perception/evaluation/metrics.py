"""All metrics of predictions against truth, under flat names ``<protocol>.<target>.<metric>``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodal_perception import amodal_coco, files
from amodal_perception.amodal_coco import AmodalCoco
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import align, read_predictions
from amodal_perception.evaluation.average_precision import (
    TARGETS,
    CocoResult,
    coco_result,
    has_target,
)
from amodal_perception.evaluation.matching import ImageMatches, match_image
from amodal_perception.evaluation.order import order_metrics


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions measured against truth.

    Attributes:
        metrics: figures 0..1 by ``<protocol>.<target>.<metric>``.
        matches: the matched instances of every image.
        coco: COCO's result by target.
    """

    metrics: dict[str, float]
    matches: list[ImageMatches]
    coco: dict[str, CocoResult]


def evaluate(truth: AmodalCoco, predictions: AmodalCoco) -> dict[str, float]:
    """Measure predictions against truth.

    Every image of the truth counts, also one without predictions. Objects of which nothing is
    visible are ignored: finding them is neither asked for nor punished. Figures that the files
    cannot give (visible masks where either file has none, order without occlusions) are left out.

    Args:
        truth: what is there.
        predictions: what was found; images and categories may have other ids, see `align`.

    Returns:
        Figures by name, all 0..1.

    Raises:
        DatasetError: images or classes the truth does not have, or a truth without objects.
    """
    return evaluate_in_detail(truth, predictions).metrics


def evaluate_in_detail(truth: AmodalCoco, predictions: AmodalCoco) -> Evaluation:
    """Do what `evaluate` does, and keep what the figures were made of."""
    predictions = align(truth, predictions)
    matches = [
        match_image(truth, predictions, image_id)
        for image_id in tqdm(truth.images, "matching", unit="image", delay=1, leave=False)
    ]
    results = {
        target: coco_result(truth, predictions, target)
        for target in TARGETS
        if has_target(truth, target) and has_target(predictions, target)
    }
    figures = {
        f"coco.{target}.{name}": value
        for target, result in results.items()
        for name, value in result.metrics().items()
    }
    metrics = {**figures, **matched_metrics(matches), **order_metrics(matches)}
    return Evaluation(metrics, matches, results)


def matched_metrics(matches: Sequence[ImageMatches]) -> dict[str, float]:
    """Measure the pairs of predicted (score >= 0.5) and true (amodal IoU >= 0.5) objects.

    Returns:
        Share of true objects found, share of predictions that are one, and the mean IoU of the
        pairs' amodal, visible and hidden masks (the last where something is hidden in truth).
    """
    amodal_iou = np.concatenate([image.amodal_iou for image in matches])
    visible_iou = np.concatenate([image.visible_iou for image in matches])
    hidden_iou = np.concatenate([image.hidden_iou for image in matches])
    hidden_iou = hidden_iou[~np.isnan(hidden_iou)]
    num_true = sum(image.num_true for image in matches)
    num_predicted = sum(image.num_predicted for image in matches)
    metrics = {"matched.instances.recall": len(amodal_iou) / max(num_true, 1)}
    if num_predicted:
        metrics["matched.instances.precision"] = len(amodal_iou) / num_predicted
    for target, ious in (
        ("amodal_mask", amodal_iou),
        ("visible_mask", visible_iou),
        ("hidden_mask", hidden_iou),
    ):
        if len(ious):
            metrics[f"matched.{target}.mean_IoU"] = float(ious.mean())
    return metrics


def evaluate_files(truth_path: Path, predictions_path: Path, out_dir: Path) -> dict[str, float]:
    """Measure a file of predictions; write ``metrics.json`` and print a table.

    Args:
        truth_path: amodal COCO.
        predictions_path: amodal COCO, or a plain COCO list of results.
        out_dir: folder, made where it is missing.

    Raises:
        DatasetError: a file that cannot be understood, or predictions of nothing.
    """
    truth = amodal_coco.read(Path(truth_path))
    predictions = read_predictions(Path(predictions_path), truth)
    if not predictions.annotations:
        raise DatasetError(f"{predictions_path}: holds no predictions")
    metrics = evaluate(truth, predictions)
    files.write_json(Path(out_dir) / "metrics.json", metrics, indent=1)
    print(f"{len(truth.images)} images, {len(truth.annotations)} true objects")
    print_metrics(metrics)
    return metrics


def print_metrics(metrics: dict[str, float]) -> None:
    """Print figures, one to a line."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:<{width}}  {value:.3f}")
