"""``amodal replay``: bags through the pipeline, or to a node, and a report on each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from amodal_perception.commands.options import (
    add_pipeline_options,
    pipeline_config,
    positive_number,
)
from amodal_perception.errors import AmodalError
from amodal_perception.replay import batch_summary, executors
from amodal_perception.replay.jobs import Job, ModelSettings, Outcome, list_jobs
from amodal_perception.replay.run_folder import RunOptions
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.bag_depth import DepthOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal replay``."""
    parser.add_argument(
        "bags",
        type=Path,
        nargs="+",
        metavar="BAG",
        help="rosbag2 folder, .mcap or .db3 file, or a folder of bags",
    )
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        help="image topic; may be given again (default: all with colour or grey images)",
    )
    parser.add_argument(
        "--depth",
        default="",
        metavar="TOPIC",
        help="depth aligned with the images, to order objects by; none: masks alone (default: a "
        "topic of the images' frame and size)",
    )
    parser.add_argument(
        "--depth-scale",
        type=positive_number,
        default=0.0,
        help="unit of the depth, metres (default: 0.001 for whole numbers, 1 for 32FC1)",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        help="amodal COCO file to score against, by stamp; or a folder with <bag's name>.json",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--no-overlays", action="store_true", help="write no PNG of each frame")
    parser.add_argument("--no-video", action="store_true", help="write no video.webm")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes for many bags (default: all cores)"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="play the images to a node over DDS in their own time (needs ROS 2)",
    )
    parser.add_argument(
        "--node",
        default="",
        metavar="NAME",
        help="with --live: the running node to play to, e.g. /amodal_perception (default: start "
        "one with the options given here)",
    )
    parser.add_argument(
        "--rate", type=positive_number, default=1.0, help="with --live: times the recorded speed"
    )
    add_pipeline_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if arguments.live and arguments.ray:
        raise AmodalError("--live plays in real time on this machine; leave out --ray")
    if arguments.live and (arguments.depth or arguments.depth_scale):
        raise AmodalError("--live plays images alone; leave out --depth and --depth-scale")
    if not arguments.live and (arguments.node or arguments.rate != 1):
        raise AmodalError("--node and --rate belong to --live")
    jobs, unreadable = list_jobs(
        arguments.bags,
        arguments.out,
        ModelSettings(
            arguments.model,
            arguments.threads,
            pipeline_config(arguments),
            arguments.provider,
            arguments.device,
        ),
        topics=arguments.topic,
        truth_path=arguments.truth,
        options=RunOptions(overlays=not arguments.no_overlays, video=not arguments.no_video),
        depth=DepthOptions(arguments.depth, arguments.depth_scale),
    )
    if arguments.live:
        outcomes = _replay_live(jobs, arguments)
    elif arguments.ray:
        outcomes = list(executors.run_on_ray(jobs, arguments.ray))
    else:
        outcomes = list(executors.run_on_cores(jobs, arguments.workers))
    summary, failures = batch_summary.write_batch_summary(arguments.out, outcomes, unreadable)
    if summary:
        print_summary(summary)
        print_runs(summary)
        kept = sum(outcome.is_reused for outcome in outcomes)
        if kept:
            print(f"{kept} of {len(outcomes)} runs were finished before, from the same inputs")
        print(f"report: {arguments.out / 'report.html'}")
    for failure in failures:
        print(f"amodal: {failure.error}", file=sys.stderr)
    return 1 if failures else 0


def _replay_live(jobs: Sequence[Job], arguments: argparse.Namespace) -> list[Outcome]:
    """Play the jobs one after the other to a node."""
    try:
        from amodal_perception.ros.live_replay import rclpy_context, replay_live
    except ModuleNotFoundError as error:
        raise AmodalError(
            f"--live needs ROS 2 and this package's messages ({error}): source your workspace's "
            "install/setup.bash; in a checkout, . install/setup.bash after make setup"
        ) from None
    # What was seen live depends on the moment: another rate or node is another run.
    label = f"{arguments.node or 'own node'} at rate {arguments.rate:g}"
    jobs = [replace(job, live=label) for job in jobs]
    play = partial(replay_live, node=arguments.node, rate=arguments.rate)
    with rclpy_context(is_alone=not arguments.node):
        return list(executors.run_serial(jobs, play))


def print_summary(summary: Json) -> None:
    """Print a run's key figures."""
    metrics, changes = summary.get("metrics", {}), summary["temporal_stability"]
    rows = [
        ("frames sent", f"{summary['frames_sent']}"),
        ("frames processed", f"{summary['frames_processed']}"),
        ("frames dropped", f"{summary['frames_dropped']}"),
        ("instances per frame", _number(summary["instances_mean"], 2)),
        ("occlusion edges per frame", _number(summary["edges_mean"], 2)),
        ("objects kept, next frame", _number(changes.get("objects_kept"), 3)),
        ("IoU with next frame", _number(changes.get("amodal_iou"), 3)),
        ("edges kept, next frame", _number(changes.get("edges_kept"), 3)),
    ]
    if "metrics" in summary:
        rows += [
            ("AP of amodal masks, scene", _number(metrics.get("coco.amodal_mask.AP"), 3)),
            ("AP of visible masks, scene", _number(metrics.get("coco.visible_mask.AP"), 3)),
            ("accuracy of the order", _number(metrics.get("order.matched_pairs.accuracy"), 3)),
        ]
    for name, value in rows:
        print(f"{name:<26} {value:>9}")
    print(f"\n{'milliseconds':<26} {'p50':>9} {'p95':>9} {'p99':>9}")
    names = {"latency_ms": "latency", "age_ms": "age on arrival", "age_in_use_ms": "age in use"}
    times = {words: summary[name] for name, words in names.items() if name in summary}
    for name, figures in {**times, **summary["stages_ms"]}.items():
        columns = " ".join(f"{_number(figures[key], 2):>9}" for key in ("p50", "p95", "p99"))
        print(f"{name:<26} {columns}")


def print_runs(summary: Json) -> None:
    """Print one line for each run; nothing of a summary of one."""
    if "runs" not in summary:
        return
    print(f"\n{'run':<44} {'frames':>8} {'dropped':>8} {'objects':>8} {'IoU next':>9} {'AP':>6}")
    for row in summary["runs"]:
        counts = f"{row['frames_processed']:>8} {row['frames_dropped']:>8}"
        figures = f"{row['instances_mean']:>8.2f} {_number(row['amodal_iou'], 3):>9}"
        print(f"{row['folder'][-44:]:<44} {counts} {figures} {_number(row['AP'], 3):>6}")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
