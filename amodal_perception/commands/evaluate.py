"""``amodal evaluate``: a file of predictions against truth; figures and a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from amodal_perception.commands.options import whole_number
from amodal_perception.evaluation import bootstrap
from amodal_perception.reports.evaluation_folder import evaluate_files, headline_text


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
    evaluation = evaluate_files(
        arguments.truth,
        arguments.predictions,
        arguments.out,
        names=arguments.protocol,
        replicates=arguments.bootstrap,
        count_fully_hidden=arguments.count_fully_hidden,
        images_dir=arguments.images,
    )
    print(headline_text(evaluation, arguments.out))
    return 0
