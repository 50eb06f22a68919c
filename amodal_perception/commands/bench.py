"""``amodal bench``: latency by stage, and throughput."""

from __future__ import annotations

import argparse
from pathlib import Path

from amodal_perception.benchmark.benchmark import PEERS, run_benchmark
from amodal_perception.commands.options import add_pipeline_options, pipeline_config
from amodal_perception.replay.jobs import ModelSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal bench``."""
    parser.add_argument("--frames", type=int, default=200, help="frames measured (default 200)")
    parser.add_argument(
        "--objects", type=int, default=20, help="objects in every frame (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, metavar="HTML", help="also write a page of plots")
    parser.add_argument(
        "--peer",
        choices=list(PEERS),
        help="time its Mask R-CNN R50-FPN, too, at equal input size and instance count",
    )
    add_pipeline_options(parser, many_models=True)
    parser.set_defaults(threads=2)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    config = pipeline_config(arguments)
    run_benchmark(
        [
            ModelSettings(path, arguments.threads, config, arguments.provider, arguments.device)
            for path in arguments.model
        ],
        frames=arguments.frames,
        objects=arguments.objects,
        peer=arguments.peer,
        json_path=arguments.json,
        page_path=arguments.plot,
    )
    return 0
