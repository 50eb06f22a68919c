"""Latency scaling: how does latency grow with image size, instances and classes?

    python -m training.studies.latency_scaling CONFIG.yaml --out DIR

A configuration's network, with random weights (speed needs no training), at several image sizes,
instance counts and class counts, one varied at a time; all are timed in turn by the same code as
``amodal bench``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from amodal_perception import files
from amodal_perception.benchmark.benchmark import benchmark
from amodal_perception.command_line import run_main
from amodal_perception.replay.jobs import ModelSettings
from amodal_perception.reports.benchmark_report import scaling_section
from amodal_perception.reports.page import write_page
from amodal_perception.storage.amodal_coco import Json
from training.export.onnx_export import FORMAT_VERSION, SingleImage, store_metadata, to_onnx
from training.loop.config import TrainConfig, load, model_name

SCALES = (0.5, 0.75, 1.0, 1.5)
"""Of the configuration's image size, rounded to whole strides."""
STRIDE = 32
INSTANCES = (8, 32, 64, 100)
CLASSES = (1, 10, 30, 90)


@dataclass(frozen=True)
class Size:
    """What a network is built for."""

    input_hw: tuple[int, int]
    instances: int
    classes: int

    @property
    def name(self) -> str:
        """A name for its file."""
        height, width = self.input_hw
        return f"{width}x{height}_{self.instances}_instances_{self.classes}_classes"


def sizes(middle: Size) -> dict[str, list[Size]]:
    """List the sizes along each axis, all through one point in the middle."""
    images = [
        (max(round(h * s / STRIDE), 1) * STRIDE, max(round(w * s / STRIDE), 1) * STRIDE)
        for h, w, s in ((*middle.input_hw, s) for s in SCALES)
    ]
    return {
        "image size": [replace(middle, input_hw=hw) for hw in images],
        "instances": [replace(middle, instances=n) for n in INSTANCES],
        "classes": [replace(middle, classes=k) for k in CLASSES],
    }


def write_model(config: TrainConfig, size: Size, folder: Path) -> Path:
    """Export the configuration's network at a size, with random weights."""
    torch.manual_seed(0)
    # Masks of each class's own, so that the number of classes can matter.
    settings = replace(config.model, instances=size.instances, class_agnostic=False)
    path = folder / f"{size.name}.onnx"
    with files.atomic_write(path) as temporary:
        to_onnx(SingleImage(settings.build(size.classes)).eval(), temporary, size.input_hw)
        metadata = {
            "format_version": FORMAT_VERSION,
            "model_id": model_name(config),
            "class_names": json.dumps([f"class_{i}" for i in range(size.classes)]),
            "input_hw": json.dumps(size.input_hw),
            "training_data": "none: random weights",
            "metrics": "{}",
        }
        store_metadata(temporary, metadata)
    return path


def measure_scaling(config: TrainConfig, out: Path, *, frames: int, threads: int) -> Json:
    """Export all sizes to a folder, time them; write ``latency_scaling.json`` and ``.html``."""
    middle = Size(config.input_hw, config.model.instances, 1)
    axes = sizes(middle)
    every = list(dict.fromkeys(size for along in axes.values() for size in along))
    out.mkdir(parents=True, exist_ok=True)
    paths = [write_model(config, size, out) for size in tqdm(every, "export", unit="model")]
    models = [ModelSettings(path, num_threads=threads) for path in paths]
    found = benchmark(models, frames=frames, objects=20, peer=None)
    of_size = dict(zip(every, found["models"]))
    scaling = {axis: [of_size[size] for size in dict.fromkeys(axes[axis])] for axis in axes}
    figures = {"machine": found["machine"], "frames": frames, "latency_scaling": scaling}
    files.write_json(out / "latency_scaling.json", figures, indent=1)
    sections = [scaling_section(models, axis) for axis, models in scaling.items()]
    write_page(out / "latency_scaling.html", f"Latency scaling of {model_name(config)}", sections)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.latency_scaling", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("config", type=Path, help="YAML file of a training configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over it")
    parser.add_argument("--out", type=Path, required=True, help="folder for models and figures")
    parser.add_argument("--frames", type=int, default=30, help="rounds (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    options = parser.parse_intermixed_args(arguments)
    return run_main("training.studies.latency_scaling", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    config = load(options.config, options.overrides)
    figures = measure_scaling(config, options.out, frames=options.frames, threads=options.threads)
    for axis, models in figures["latency_scaling"].items():
        print(f"\n{axis:<12} {'engine ms':>10} {'all ms':>8}")
        for model in models:
            value = {"image size": "x".join(map(str, reversed(model["input_hw"])))}.get(axis)
            print(
                f"{value or model[axis]:<12} {model['stages_ms']['engine']['p50']:>10.1f} "
                f"{model['total_ms']['p50']:>8.1f}"
            )
    print(f"\nplots: {options.out / 'latency_scaling.html'}")


if __name__ == "__main__":
    sys.exit(main())
