"""Occlusion order: is it better from the visible mask or from the predicted occluder's mask?

    python -m training.studies.occluder_order RUN --data DIR

The order of objects comes from what is hidden of each: amodal and not visible. A system that
predicts an occluder's mask has a second estimate of what is hidden: amodal and occluder. This
evaluates the edges from either, from both and from any of them. It needs a run whose visible mask
is not itself computed from the occluder's: BCNet with ``model.visible_mask=tail``. With
``--oracle-boxes`` the true boxes replace the detector, so that masks alone decide.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.ordering import occlusion_graph
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import Runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.predictions_file import SCENE
from amodal_perception.structures import Frame, Instances, Scene
from training.evaluate import load, merged
from training.studies.oracle_boxes import scenes_with_oracle_boxes

RULES = {
    "masks": "amodal and not visible",
    "occluder": "amodal and occluder",
    "both": "amodal, not visible and occluder",
    "either": "amodal, and not visible or occluder",
}
"""What counts as hidden."""
FIGURES = ("precision", "recall", "F1")


def hidden_by(rule: str, instances: Instances) -> Instances:
    """Replace the visible masks by what the rule leaves of the amodal masks.

    Args:
        rule: of `RULES`.
        instances: with occluder masks.
    """
    assert instances.occluder_crops is not None
    crops = zip(instances.amodal_crops, instances.visible_crops, instances.occluder_crops)
    visible_by = {
        "masks": lambda amodal, visible, occluder: visible,
        "occluder": lambda amodal, visible, occluder: amodal & ~occluder,
        "both": lambda amodal, visible, occluder: amodal & (visible | ~occluder),
        "either": lambda amodal, visible, occluder: visible & ~occluder,
    }[rule]
    return replace(instances, visible_crops=tuple(visible_by(*crop) for crop in crops))


def detected_scenes(
    runtime: Runtime, truth: amodal_coco.AmodalCoco
) -> Iterator[tuple[int, Scene]]:
    """Run inference on all images of a data set; objects of score 0.5 or more."""
    pipeline = Pipeline(runtime)
    for image_id in tqdm(sorted(truth.images), "predicting", unit="image", delay=2, leave=False):
        image = read_image(truth.path.parent / truth.images[image_id]["file_name"])
        yield image_id, pipeline(Frame(image))


def order_figures_by_rule(
    scenes: Iterable[tuple[int, Scene]], runtime: Runtime, truth: amodal_coco.AmodalCoco
) -> dict[str, dict[str, float]]:
    """Measure precision, recall and F1 of the occlusion edges (end to end), by rule.

    Args:
        scenes: predicted, with the images' ids.
        runtime: that predicted them.
        truth: of the same images.

    Raises:
        ConfigError: the network predicts no occluder.
    """
    rows: dict[str, list[tuple[list, list]]] = {rule: [] for rule in RULES}
    for image_id, scene in scenes:
        if scene.instances.occluder_crops is None:
            raise ConfigError("the network predicts no occluder's mask")
        for rule in RULES:
            graph = occlusion_graph(hidden_by(rule, scene.instances))
            rows[rule].append(
                amodal_coco.scene_to_annotations(
                    replace(scene, graph=graph), image_id=image_id, first_id=0
                )
            )
    found = {}
    for rule in RULES:
        measured = evaluate(truth, merged(rows[rule], truth, runtime.metadata, SCENE), ["order"])
        found[rule] = {name: measured[f"order.end_to_end.{name}"] for name in FIGURES}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.occluder_order", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder, checkpoint or model file")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--oracle-boxes", action="store_true", help="in place of the detector's")
    parser.add_argument("--threads", type=int, default=0, help="of the arithmetic (all cores)")
    options = parser.parse_args(arguments)
    return run_main("training.studies.occluder_order", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    runtime = load(options.run, torch.device("cpu"), options.threads)
    if options.threads:
        torch.set_num_threads(options.threads)
    truth = amodal_coco.read(options.data)
    scenes_of = scenes_with_oracle_boxes if options.oracle_boxes else detected_scenes
    found = order_figures_by_rule(scenes_of(runtime, truth), runtime, truth)
    print("| hidden is | precision | recall | F1 |\n|---|---|---|---|")
    for rule, measured in found.items():
        cells = " | ".join(f"{100 * measured[name]:.1f}" for name in FIGURES)
        print(f"| {RULES[rule]} | {cells} |")


if __name__ == "__main__":
    sys.exit(main())
