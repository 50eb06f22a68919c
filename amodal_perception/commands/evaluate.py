"""``amodal evaluate``: a file of predictions against truth; figures and a report."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from amodal_perception import files
from amodal_perception.commands.options import whole_number
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation import bootstrap, protocols
from amodal_perception.evaluation.alignment import align, read_predictions
from amodal_perception.evaluation.evaluate import HEADLINES, evaluate_in_detail
from amodal_perception.reports.evaluation_report import write_evaluation_report
from amodal_perception.storage import amodal_coco


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal evaluate``."""
    parser.add_argument("--truth", type=Path, required=True, help="amodal COCO file")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="amodal COCO file, or COCO list of results"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for metrics.json and report.html"
    )
    parser.add_argument(
        "--protocol", nargs="+", metavar="NAME", help="measure by these (default: all possible)"
    )
    parser.add_argument(
        "--bootstrap",
        type=whole_number,
        default=bootstrap.REPLICATES,
        metavar="N",
        help="draws for confidence intervals; 0: none (default %(default)s)",
    )
    parser.add_argument(
        "--count-fully-hidden",
        action="store_true",
        help="count objects of which nothing is visible, too, as COCO's own code does",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs (default: beside the truth)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    evaluate_files(
        arguments.truth,
        arguments.predictions,
        arguments.out,
        names=arguments.protocol,
        replicates=arguments.bootstrap,
        count_fully_hidden=arguments.count_fully_hidden,
        images_dir=arguments.images,
    )
    return 0


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
        count_fully_hidden: count objects of which nothing is visible, too.
        images_dir: where the photographs are; None: beside the truth.

    Raises:
        DatasetError: a file that cannot be understood, or predictions of nothing.
    """
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
    write_evaluation_report(
        out_dir / "report.html",
        evaluation,
        truth,
        align(truth, predictions),
        images_dir or Path(truth_path).parent,
    )
    print(f"{len(truth.images)} images, {len(truth.annotations)} true objects")
    shown = [name for name in HEADLINES if name in evaluation.metrics] or evaluation.metrics
    _print_figures({name: evaluation.metrics[name] for name in shown})
    print(f"{len(evaluation.metrics)} figures: {out_dir / 'metrics.json'}")
    for name, obstacle in evaluation.left_out.items():
        print(f"left out: {name}, because {obstacle}")
    return evaluation.metrics


def _print_figures(metrics: dict[str, float]) -> None:
    """Print figures, one to a line."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:<{width}}  {value:.3f}")
