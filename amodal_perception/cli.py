"""The ``amodal`` command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from amodal_perception.commands import build_engine as build_engine
from amodal_perception.errors import AmodalError
from amodal_perception.ordering import OrderingConfig
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.runtime import DEFAULT_MODEL, PROVIDERS, load_runtime

if TYPE_CHECKING:
    from amodal_perception.replay.jobs import Job, Outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, 0 when all went well."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="amodal: %(message)s")
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except AmodalError as error:
        print(f"amodal: {error}", file=sys.stderr)
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"amodal: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def build_parser() -> argparse.ArgumentParser:
    """Describe all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="amodal",
        description="See what is hidden: visible and amodal masks, occlusion and removal order.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_replay(commands.add_parser("replay", help="see every frame of bags, and report"))

    predict = commands.add_parser("predict", help="see image files")
    predict.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    predict.add_argument("--out", type=Path, required=True, help="folder for the results")
    predict.add_argument("--no-overlays", action="store_true", help="write predictions.json only")
    _add_pipeline_options(predict)
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser("evaluate", help="score predictions against truth")
    evaluate.add_argument("--truth", type=Path, required=True, help="amodal COCO file")
    evaluate.add_argument(
        "--predictions", type=Path, required=True, help="amodal COCO file, or COCO list of results"
    )
    evaluate.add_argument(
        "--out", type=Path, required=True, help="folder for metrics.json and report.html"
    )
    evaluate.add_argument(
        "--protocol", nargs="+", metavar="NAME", help="measure by these (default: all possible)"
    )
    evaluate.add_argument(
        "--bootstrap",
        type=_whole_number,
        default=200,
        metavar="N",
        help="draws for confidence intervals; 0: none (default %(default)s)",
    )
    evaluate.add_argument(
        "--count-fully-hidden",
        action="store_true",
        help="ask for objects of which nothing is visible, too, as COCO's own code does",
    )
    evaluate.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs (default: beside the truth)"
    )
    evaluate.set_defaults(run=_evaluate)

    bench = commands.add_parser("bench", help="measure latency by stage and throughput")
    bench.add_argument("--frames", type=int, default=200, help="frames measured (default 200)")
    bench.add_argument(
        "--objects", type=int, default=20, help="objects in every frame (default %(default)s)"
    )
    bench.add_argument("--json", type=Path, help="also write the figures to this file")
    bench.add_argument("--plot", type=Path, metavar="HTML", help="also write a page of plots")
    bench.add_argument(
        "--peer",
        choices=["torchvision"],
        help="time its Mask R-CNN R50-FPN, too, at equal input size and instance count",
    )
    _add_pipeline_options(bench, many_models=True)
    bench.set_defaults(run=_bench, threads=2)

    build = commands.add_parser("build-engine", help="compile a model for an NVIDIA GPU")
    build_engine.add_arguments(build)
    build.set_defaults(run=build_engine.run)

    inspect = commands.add_parser("inspect", help="tell what a model, bag or dataset holds")
    inspect.add_argument(
        "file", type=Path, help=".onnx model, bag, amodal COCO .json, or a data set's folder"
    )
    inspect.add_argument("--out", type=Path, help="folder for a page of a data set's images")
    inspect.add_argument(
        "--limit", type=int, default=500, help="most images on the page (default %(default)s)"
    )
    inspect.set_defaults(run=_inspect)
    return parser


def _add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument(
        "bags",
        type=Path,
        nargs="+",
        metavar="BAG",
        help="rosbag2 folder, .mcap or .db3 file, or a folder of bags",
    )
    replay.add_argument(
        "--topic",
        action="append",
        default=[],
        help="image topic; may be given again (default: all with colour or grey images)",
    )
    replay.add_argument(
        "--truth",
        type=Path,
        help="amodal COCO file to score against, by stamp; or a folder with <bag's name>.json",
    )
    replay.add_argument("--out", type=Path, required=True, help="folder for the results")
    replay.add_argument("--no-overlays", action="store_true", help="write no PNG of each frame")
    replay.add_argument("--no-video", action="store_true", help="write no video.webm")
    replay.add_argument(
        "--workers", type=int, default=0, help="processes for many bags (default: all cores)"
    )
    replay.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local",
    )
    replay.add_argument(
        "--live",
        action="store_true",
        help="play the images to a node over DDS in their own time (needs ROS 2)",
    )
    replay.add_argument(
        "--node",
        default="",
        metavar="NAME",
        help="with --live: the running node to play to, e.g. /amodal_perception (default: start "
        "one with the options given here)",
    )
    replay.add_argument(
        "--rate", type=_positive, default=1.0, help="with --live: times the recorded speed"
    )
    _add_pipeline_options(replay)
    replay.set_defaults(run=_replay)


def _add_pipeline_options(parser: argparse.ArgumentParser, many_models: bool = False) -> None:
    postprocess, ordering = PostprocessConfig(), OrderingConfig()
    if many_models:
        parser.add_argument(
            "--model",
            type=Path,
            nargs="+",
            default=[DEFAULT_MODEL],
            help="model files, measured in turn (default: the one shipped)",
        )
    else:
        parser.add_argument(
            "--model",
            type=Path,
            default=DEFAULT_MODEL,
            help="model file (default: the one shipped)",
        )
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of the engine (0: it chooses)"
    )
    parser.add_argument(
        "--provider",
        choices=PROVIDERS,
        default="cpu",
        help="what runs an .onnx file inside ONNX Runtime (default %(default)s)",
    )
    parser.add_argument(
        "--score-threshold",
        type=_fraction,
        default=postprocess.score_threshold,
        help="lowest score of an instance, 0..1 (default %(default)s)",
    )
    parser.add_argument(
        "--min-own-share",
        type=_fraction,
        default=postprocess.min_own_share,
        help="least share of an instance's pixels that no better one claims, 0..1; 0 keeps "
        "repetitions (default %(default)s)",
    )
    parser.add_argument(
        "--min-hidden-fraction",
        type=_fraction,
        default=ordering.min_hidden_fraction,
        help="hidden share of an object that counts as occlusion, 0..1 (default %(default)s)",
    )


def _whole_number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _pipeline_config(arguments: argparse.Namespace) -> PipelineConfig:
    return PipelineConfig(
        postprocess=PostprocessConfig(
            score_threshold=arguments.score_threshold, min_own_share=arguments.min_own_share
        ),
        ordering=OrderingConfig(min_hidden_fraction=arguments.min_hidden_fraction),
    )


def _load_pipeline(arguments: argparse.Namespace) -> Pipeline:
    runtime = load_runtime(
        arguments.model, num_threads=arguments.threads, provider=arguments.provider
    )
    return Pipeline(runtime, _pipeline_config(arguments))


def _replay(arguments: argparse.Namespace) -> int:
    from amodal_perception.replay import batch_summary, executors
    from amodal_perception.replay.jobs import ModelSettings, plan
    from amodal_perception.replay.run_folder import RunOptions, print_table

    if arguments.live and arguments.ray:
        raise AmodalError("--live plays in real time on this machine; leave out --ray")
    if not arguments.live and (arguments.node or arguments.rate != 1):
        raise AmodalError("--node and --rate belong to --live")
    jobs, unreadable = plan(
        arguments.bags,
        arguments.out,
        ModelSettings(
            arguments.model, arguments.threads, _pipeline_config(arguments), arguments.provider
        ),
        topics=arguments.topic,
        truth_path=arguments.truth,
        options=RunOptions(overlays=not arguments.no_overlays, video=not arguments.no_video),
    )
    if arguments.live:
        outcomes = _replay_live(jobs, arguments)
    elif arguments.ray:
        outcomes = list(executors.run_on_ray(jobs, arguments.ray))
    else:
        outcomes = list(executors.run_on_cores(jobs, arguments.workers))
    summary, failures = batch_summary.finish(arguments.out, outcomes, unreadable)
    if summary:
        print_table(summary)
        batch_summary.print_runs(summary)
        kept = sum(outcome.is_kept for outcome in outcomes)
        if kept:
            print(f"{kept} of {len(outcomes)} runs were finished before, from the same inputs")
        print(f"report: {arguments.out / 'report.html'}")
    for failure in failures:
        print(f"amodal: {failure.error}", file=sys.stderr)
    return 1 if failures else 0


def _replay_live(jobs: Sequence[Job], arguments: argparse.Namespace) -> list[Outcome]:
    """Play the jobs one after the other to a node."""
    from amodal_perception.replay.executors import run_in_turn

    try:
        from amodal_perception.ros.live_replay import replay_live, ros
    except ModuleNotFoundError as error:
        raise AmodalError(
            f"--live needs ROS 2 and this package's messages: source its setup ({error})"
        ) from None
    # What was seen live depends on the moment: another rate or node is another run.
    label = f"{arguments.node or 'own node'} at rate {arguments.rate:g}"
    jobs = [replace(job, live=label) for job in jobs]
    run = partial(replay_live, node=arguments.node, rate=arguments.rate)
    with ros(is_alone=not arguments.node):
        return list(run_in_turn(jobs, run))


def _predict(arguments: argparse.Namespace) -> int:
    from amodal_perception.commands.predict import predict

    unreadable = predict(
        arguments.images,
        _load_pipeline(arguments),
        arguments.out,
        overlays=not arguments.no_overlays,
    )
    print(f"predictions: {arguments.out / 'predictions.json'}")
    if unreadable:
        print(f"amodal: {len(unreadable)} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from amodal_perception.evaluation.evaluate import evaluate_files

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


def _bench(arguments: argparse.Namespace) -> int:
    from amodal_perception.benchmark.benchmark import run_benchmark
    from amodal_perception.replay.jobs import ModelSettings

    config = _pipeline_config(arguments)
    run_benchmark(
        [
            ModelSettings(path, arguments.threads, config, arguments.provider)
            for path in arguments.model
        ],
        frames=arguments.frames,
        objects=arguments.objects,
        peer=arguments.peer,
        json_path=arguments.json,
        page_path=arguments.plot,
    )
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from amodal_perception.commands.inspect_file import browse, describe

    if arguments.limit < 1:
        raise AmodalError(f"--limit {arguments.limit}: the page needs at least one image")
    description = describe(arguments.file)
    width = max(16, *map(len, description))
    for key, value in description.items():
        print(f"{key:{width}} {value}")
    if arguments.out:
        page = browse(arguments.file, arguments.out, limit=arguments.limit)
        print(f"page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
