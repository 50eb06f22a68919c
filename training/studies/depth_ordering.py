"""Occlusion order: what does registered depth add to the masks?

    python -m training.sim --scenes 150 --seed 4242 --families benchmark --depth --out DIR
    python -m training.studies.depth_ordering MODEL.onnx --data DIR

The simulator's depth is exact, so noise as of a structured-light camera is added to it first. The
rules are then measured on true masks and on a model's detections: an edge where the masks say so,
where the depth does (the nearer one along a common border), where either does, where both do, and
what `ordering.occlusion_graph` makes of them. On true masks the mask rule is the truth itself.
``--clean`` leaves the noise out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import nan
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.depth_ordering import border_depth
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.ordering import (
    TRUTH_CONFIG,
    OrderingConfig,
    occlusion_graph,
    overlap_matrix,
    removal_order,
)
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import ModelMetadata
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.predictions_file import SCENE
from amodal_perception.structures import BoolArray, FloatArray, Frame, OcclusionGraph, Scene
from training.evaluate import load, merged

RULES = {
    "masks": "masks",
    "depth": "depth",
    "either": "masks or depth",
    "both": "masks and depth",
    "used": "as the pipeline does",
}
SCOPES = ("end_to_end", "matched_pairs")
FIGURES = ("precision", "recall", "F1")

# A structured-light camera of VGA size (Kinect, RealSense D4xx in its way): noise along the axis
# after Nguyen et al. 2012, across it from the width of the correlation window, disparity in
# eighths of a pixel, nothing beside edges, where one of the two views is hidden.
FOCAL_TIMES_BASELINE_PX_M = 600 * 0.075
DISPARITY_STEP_PX = 1 / 8
AXIAL_NOISE_M, AXIAL_NOISE_PER_M = 0.0012, 0.0019
LATERAL_NOISE_PX = 0.7
RANGE_M = 0.2, 8.0
JUMP = 0.02  # of the distance; what differs more is an edge
SHADOW_PX, SHADOW_HOLES, RIM_HOLES = 2, 0.7, 0.3
HOLE_SIZE_PX, HOLE_SIGMA = 3.0, 2.2


def sensor_depth(depth_m: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Make of exact depth what a depth camera might have measured.

    Args:
        depth_m: [H, W] float32, metres; NaN where nothing is in reach.
        rng: draws the noise.

    Returns:
        The same, with noise that grows with the distance, steps, displaced edges and holes (NaN).
    """
    height, width = depth_m.shape
    exact = np.nan_to_num(depth_m, nan=100.0)

    def waves(size_px: float) -> FloatArray:
        drawn = rng.standard_normal((height, width)).astype(np.float32)
        smooth = cv2.GaussianBlur(drawn, (0, 0), size_px)
        return np.asarray(smooth / smooth.std(), np.float32)

    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    seen = cv2.remap(
        exact,
        columns + LATERAL_NOISE_PX * waves(1.0),
        rows + LATERAL_NOISE_PX * waves(1.0),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    seen = seen + (AXIAL_NOISE_M + AXIAL_NOISE_PER_M * seen**2) * waves(0.8)
    steps = np.rint(FOCAL_TIMES_BASELINE_PX_M / seen / DISPARITY_STEP_PX)
    seen = FOCAL_TIMES_BASELINE_PX_M / np.maximum(steps * DISPARITY_STEP_PX, 1e-3)
    measured = np.round(seen, 3).astype(np.float32)  # millimetres

    around = np.ones((2 * SHADOW_PX + 1,) * 2, np.uint8)
    is_shadow = exact - cv2.erode(exact, around) > JUMP * exact
    is_rim = cv2.dilate(exact, np.ones((3, 3), np.uint8)) - exact > JUMP * exact
    is_hole = waves(HOLE_SIZE_PX) > HOLE_SIGMA
    is_hole |= is_shadow & (rng.random((height, width)) < SHADOW_HOLES)
    is_hole |= is_rim & (rng.random((height, width)) < RIM_HOLES)
    is_hole |= (measured < RANGE_M[0]) | (measured > RANGE_M[1])
    measured[is_hole] = np.nan
    return np.asarray(measured, np.float32)


def graph_by(rule: str, scene: Scene, depth_m: FloatArray, config: OrderingConfig) -> Scene:
    """Order a scene's objects by one of `RULES`."""
    instances = scene.instances
    by_masks = occlusion_graph(instances, config)
    if rule == "masks":
        return replace(scene, graph=by_masks)
    if rule == "used":
        return replace(scene, graph=occlusion_graph(instances, config, depth_m))
    masks = np.zeros((len(instances),) * 2, np.bool_)
    masks[by_masks.edges[:, 0], by_masks.edges[:, 1]] = True
    depth = border_depth(instances, depth_m).is_nearer
    occludes = {"depth": depth, "either": masks | depth, "both": masks & depth}[rule]
    return replace(scene, graph=_graph_of(scene, occludes))


def _graph_of(scene: Scene, occludes: BoolArray) -> OcclusionGraph:
    edges = np.argwhere(occludes).astype(np.int32)
    i, j = edges.T
    overlap_px = overlap_matrix(scene.instances)[i, j]
    order, cycles = removal_order(occludes, scene.instances.occlusion_rate)
    return OcclusionGraph(
        edges=edges,
        confidence=np.ones(len(edges), np.float32),
        overlap_px=overlap_px,
        hidden_fraction=np.zeros(len(edges), np.float32),
        removal_order=order,
        cycles=cycles,
    )


def read_depth(truth: AmodalCoco, image_id: int) -> FloatArray:
    """Read the depth that ``training.sim --depth`` wrote, metres; NaN where nothing is in reach.

    Raises:
        DatasetError: it is not there.
    """
    path = truth.path.parent / "depth" / f"{image_id:06d}.png"
    millimetres = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if millimetres is None:
        raise DatasetError(f"{path}: no depth; make the data with training.sim --depth")
    metres = millimetres.astype(np.float32) / 1000
    metres[millimetres == 0] = np.nan
    return np.asarray(metres, np.float32)


def true_scene(truth: AmodalCoco, image_id: int) -> Scene:
    """Make a scene of an image's true masks; it has no edges yet."""
    instances = truth.instances_of(image_id)
    graph = occlusion_graph(instances, TRUTH_CONFIG)
    return Scene(0, "camera", instances, graph, "truth", truth.class_names)


def measure(
    truth: AmodalCoco, pipeline: Pipeline, *, is_clean: bool, seed: int = 0
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Measure the edges of every rule.

    Args:
        truth: of images with depth.
        pipeline: predicts.
        is_clean: leave the noise out.
        seed: of the noise.

    Yields:
        What the masks are (``true`` or ``detected``), the rule, and its figures by
        ``scope.figure``; NaN where there is nothing to measure.
    """
    rows: dict[tuple[str, str], list[tuple[list, list]]] = {}
    for image_id in tqdm(sorted(truth.images), "ordering", unit="image", delay=2, leave=False):
        depth_m = read_depth(truth, image_id)
        if not is_clean:
            depth_m = sensor_depth(depth_m, np.random.default_rng([seed, image_id]))
        image = read_image(truth.path.parent / truth.images[image_id]["file_name"])
        scenes = {
            "true": (true_scene(truth, image_id), TRUTH_CONFIG),
            "detected": (pipeline(Frame(image)), pipeline.config.ordering),
        }
        for masks, (scene, config) in scenes.items():
            for rule in RULES:
                rows.setdefault((masks, rule), []).append(
                    amodal_coco.scene_to_annotations(
                        graph_by(rule, scene, depth_m, config), image_id=image_id, first_id=0
                    )
                )
    metadata: ModelMetadata = pipeline.runtime.metadata
    for (masks, rule), annotated in rows.items():
        measured = evaluate(truth, merged(annotated, truth, metadata, SCENE), ["order"])
        yield (
            masks,
            rule,
            {
                f"{s}.{name}": measured.get(f"order.{s}.{name}", nan)
                for s in SCOPES
                for name in FIGURES
            },
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.depth_ordering", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder, checkpoint or model file")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder, with depth")
    parser.add_argument("--clean", action="store_true", help="exact depth, without noise")
    parser.add_argument("--threads", type=int, default=0, help="of the arithmetic (all cores)")
    options = parser.parse_args(arguments)
    return run_main("training.studies.depth_ordering", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    pipeline = Pipeline(load(options.run, torch.device("cpu"), options.threads))
    truth = amodal_coco.read(options.data)
    print(
        "| masks | edges by | end to end P / R / F1 | pairs found P / R / F1 |\n|---|---|---|---|"
    )
    for masks, rule, measured in measure(truth, pipeline, is_clean=options.clean):
        cells = (
            " / ".join(f"{measured[f'{scope}.{name}']:.3f}" for name in FIGURES)
            for scope in SCOPES
        )
        print(f"| {masks} | {RULES[rule]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
