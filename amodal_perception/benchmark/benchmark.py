"""Latency and throughput of models, a peer and matrix products, timed in alternation.

So ratios hold although the machine's load changes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import trange

from amodal_perception import files
from amodal_perception.benchmark.cpu import cpu_name
from amodal_perception.benchmark.fixed_objects import SIZE_HW
from amodal_perception.benchmark.timed_processes import (
    Step,
    TimedProcess,
    blas_threads,
    matrix_product_steps,
    model_steps,
)
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.frame_table import percentiles
from amodal_perception.replay.jobs import ModelSettings
from amodal_perception.reports.benchmark_report import write_benchmark_page
from amodal_perception.storage.amodal_coco import Json

OBJECTS = 20
WARM_UP_ROUNDS = 3
PEER_STEPS = 10
PEER_STAGES = ("preprocess", "engine", "postprocess")
"""The stages that do what the peer does: from an image to instances at its resolution."""
PEERS = {"torchvision": "training.studies.torchvision_peer"}
"""By name the module whose ``steps`` make it; PyTorch is not the run time's."""


def run_benchmark(
    models: Sequence[ModelSettings],
    *,
    frames: int = 200,
    objects: int = OBJECTS,
    peer: str | None = None,
    json_path: Path | None = None,
    page_path: Path | None = None,
) -> Json:
    """Run `benchmark`, print a table, and write the figures and a page of plots where asked to.

    Raises:
        ConfigError: no frames, an unknown peer, or one that is not installed.
        ModelFileError: a model that cannot be loaded.
    """
    for name, value in (("frames", frames), ("objects", objects)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, but at least 1 is needed")
    if peer is not None and peer not in PEERS:
        raise ConfigError(f"unknown peer {peer!r}; known are: {', '.join(PEERS)}")
    figures = benchmark(models, frames=frames, objects=objects, peer=peer)
    if json_path:
        files.write_json(Path(json_path), figures, indent=1)
    if page_path:
        write_benchmark_page(Path(page_path), figures)
    print_figures(figures)
    return figures


def benchmark(
    models: Sequence[ModelSettings], *, frames: int, objects: int, peer: str | None
) -> Json:
    """Time all stages of every model on 640 x 480 JPEG frames.

    Args:
        models: at least one; all with as many threads.
        frames: rounds, in each of which every model processes one frame, after a warm-up.
        objects: in every frame, as far as a model has room for them.
        peer: name of something else that processes an image of the model's input size with as many
            instances, in `PEER_STEPS` of the rounds.

    Returns:
        Figures. Times are percentiles in milliseconds. A peer's or the peak's share is the median
        of ratios within one round.
    """
    num_threads = models[0].num_threads or os.cpu_count() or 1
    with blas_threads(num_threads):
        ours = [TimedProcess(model_steps, settings, objects) for settings in models]
        products = TimedProcess(matrix_product_steps)
        peers = [
            TimedProcess(
                peer_steps,
                peer,
                tuple(one.facts["input_hw"]),
                one.facts["instances"],
                one.facts["classes"],
                num_threads,
            )
            for one in ours
            if peer
        ]
    for _ in range(WARM_UP_ROUNDS):
        for one in (*ours, products):
            one.step()
    rows: list[list[dict[str, float]]] = [[] for _ in ours]
    peer_ms: list[dict[int, float]] = [{} for _ in peers]
    peak_gflops = []
    peer_every = max(frames // PEER_STEPS, 1)
    for i in trange(frames, desc="bench", unit="round"):
        for one, own_rows in zip(ours, rows):
            own_rows.append(one.step())
        peak_gflops.append(products.step()["gflops"])
        if i % peer_every == 0:
            for one, times in zip(peers, peer_ms):
                times[i] = one.step()["inference"]
    products.end()
    figures: Json = {
        "machine": {"cpu": cpu_name(), "cpus": os.cpu_count(), "threads": num_threads},
        "image_hw": list(SIZE_HW),
        "frames": frames,
        "sgemm_gflops": percentiles(peak_gflops),
        "models": [
            one.facts | summarise(own_rows, one.facts["gflop"], np.array(peak_gflops))
            for one, own_rows in zip(ours, rows)
        ],
    }
    for row, one in zip(figures["models"], ours):
        row["peak_memory_mib"] = round(one.end(), 1)
    for row, own_rows, one, times in zip(figures["models"], rows, peers, peer_ms):
        own_ms = [sum(own_rows[i][stage] for stage in PEER_STAGES) for i in times]
        row["peer"] = {
            "name": peer,
            "instances": one.facts["instances"],
            "inference_ms": percentiles(list(times.values())),
            "our_share": _ratio(own_ms, list(times.values())),
            "peak_memory_mib": round(one.end(), 1),
        }
    return figures


def peer_steps(peer: str, *arguments: Any) -> tuple[Step, Json]:
    """Load a peer inside its process, and return its step.

    Raises:
        ConfigError: it is not installed, or this is no checkout with ``training/``.
    """
    try:
        return import_module(PEERS[peer]).steps(*arguments)
    except ImportError as error:
        raise ConfigError(
            f"peer {peer} needs torch and torchvision, and to be run in a checkout of this "
            f"project ({error})"
        ) from None


def summarise(
    rows: list[dict[str, float]], gflop: float | None, peak_gflops: NDArray[np.float64]
) -> Json:
    """Summarise a model's rounds: percentiles by stage, and rates.

    Args:
        rows: milliseconds of every stage, for each round.
        gflop: 1e9 operations of the engine for a frame, where known.
        peak_gflops: [rounds] 1e9 operations a second of matrix products in the same rounds.
    """
    stages_ms = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    total_ms = np.sum(list(stages_ms.values()), axis=0)
    after_ms = stages_ms["postprocess"] + stages_ms["ordering"] + stages_ms["message"]
    summary: Json = {
        "stages_ms": {name: percentiles(values) for name, values in stages_ms.items()},
        "total_ms": percentiles(total_ms),
        "all_but_engine_ms": percentiles(total_ms - stages_ms["engine"]),
        "postprocess_ordering_message_ms": percentiles(after_ms),
        "frames_per_second": round(1e3 / float(np.median(total_ms)), 2),
    }
    if gflop is not None:
        rate = gflop / stages_ms["engine"] * 1e3
        summary["engine_gflops"] = percentiles(rate)
        summary["sgemm_share"] = _ratio(rate, peak_gflops)
    return summary


def _ratio(a: Sequence[float] | NDArray, b: Sequence[float] | NDArray) -> float:
    return round(float(np.median(np.asarray(a) / np.asarray(b))), 3)


def print_figures(figures: Json) -> None:
    """Print what `benchmark` found as a table for each model."""
    height, width = figures["image_hw"]
    machine = figures["machine"]
    cpus = f"{machine['threads']} of {machine['cpus']} CPUs"
    print(f"{machine['cpu']}, {cpus}; {width} x {height} JPEG frames")
    print(f"matrix products (sgemm): {figures['sgemm_gflops']['p50']:.0f} GFLOP/s")
    for model in figures["models"]:
        print(
            f"\n{model['model_id']}: {model['objects']} objects, {model['instances']} instances, "
            f"{model['classes']} classes, input {model['input_hw'][1]} x {model['input_hw'][0]}"
        )
        print(f"{'milliseconds':<34} {'p50':>9} {'p95':>9} {'p99':>9}")
        rows = {
            **model["stages_ms"],
            "postprocess + ordering + message": model["postprocess_ordering_message_ms"],
            "all but the engine": model["all_but_engine_ms"],
            "total": model["total_ms"],
        }
        if "peer" in model:
            rows[f"peer: {model['peer']['name']}"] = model["peer"]["inference_ms"]
        for name, row in rows.items():
            print(f"{name:<34} {row['p50']:>9.2f} {row['p95']:>9.2f} {row['p99']:>9.2f}")
        print(f"{model['frames_per_second']:.1f} frames per second", end="")
        if model["gflop"] is not None:
            print(
                f"; engine: {model['gflop']:.2f} GFLOP a frame, "
                f"{model['engine_gflops']['p50']:.0f} GFLOP/s, "
                f"{model['sgemm_share']:.0%} of sgemm",
                end="",
            )
        print(f"; memory: {model['memory_mib']:.0f} MiB for the model")
        if "peer" in model:
            print(
                f"from image to instances in {model['peer']['our_share']:.2f} of the peer's time"
            )
    if any(model["gflop"] is None for model in figures["models"]):
        print("GFLOP are counted of .onnx files, where the package onnx is installed")
