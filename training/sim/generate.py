"""Render a data set in worker processes: a job per physics scene, resumable, reproducible.

Image i is view ``i % VIEWS`` of physics scene ``i // VIEWS``, and all of it is drawn from the
seeds (seed, scene) and (seed, scene, view): the bytes do not depend on the number of workers or
on interruptions.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from amodal_perception import files
from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph
from amodal_perception.processes import end_with_parent
from amodal_perception.storage import amodal_coco
from amodal_perception.structures import Scene
from training import image_jobs
from training.image_jobs import (
    image_name,
    merge_then_raise,
    open_dataset_folder,
    read_settings,
    record_path,
    run_image_jobs,
)
from training.sim.gl import choose_renderer

FAMILY_SETS = ("train", "heldout", "mixed", "benchmark")
VIEWS = 3
BENCHMARK_PERIOD = 5
CLASS_NAMES = ("object",)


@dataclass(frozen=True)
class DatasetConfig:
    """What to render.

    Attributes:
        seed: the data set's seed.
        images: how many pictures.
        families: train, heldout, mixed (each object from any family), or benchmark (every fifth
            physics scene heldout, the others train).
        size_hw: picture height and width, pixels.
        depth: also write 16-bit PNGs, millimetres, 0 beyond 65 m.
    """

    seed: int
    images: int
    families: str = "train"
    size_hw: tuple[int, int] = (480, 640)
    depth: bool = False

    def families_of(self, scene_index: int) -> str:
        """Name the set of families one physics scene draws from."""
        if self.families != "benchmark":
            return self.families
        return "heldout" if scene_index % BENCHMARK_PERIOD == BENCHMARK_PERIOD - 1 else "train"


def generate(config: DatasetConfig, out: Path, *, workers: int = 0) -> None:
    """Render what is missing and merge everything into ``annotations.json``.

    Args:
        config: what to render.
        out: the data set's folder; a started one is continued.
        workers: processes; 0 means one per core.

    Raises:
        DatasetError: the folder holds a data set of other settings.
        AmodalError: no software OpenGL, or a worker was killed.
    """
    _claim(config, out)
    scenes = -(-config.images // VIEWS)
    missing = {scene: _missing(config, out, scene) for scene in range(scenes)}
    todo = [scene for scene, indices in missing.items() if indices]
    done = config.images - sum(len(indices) for indices in missing.values())
    with (
        merge_then_raise(lambda: merge(out)),
        tqdm(total=config.images, initial=done, unit="image", desc=str(out)) as bar,
    ):
        if todo:
            choose_renderer()
            for count in _render_all(config, out, todo, workers or os.cpu_count() or 1):
                bar.update(count)


def _render_all(
    config: DatasetConfig, out: Path, scenes: list[int], workers: int
) -> Iterator[int]:
    """Render physics scenes in parallel; yield how many images each finished job made."""
    # A spawned worker imports MuJoCo anew, after the renderer was chosen.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(scenes)), mp_context=context, initializer=end_with_parent
    )
    yield from run_image_jobs(pool, out, _render_job, ((config, out, scene) for scene in scenes))


def merge(out: Path) -> int:
    """Write ``annotations.json`` from the records there are; return the number of images."""
    info = {"description": "simulated scenes with exact amodal truth", **read_settings(out)}
    return image_jobs.merge(out, CLASS_NAMES, info)


def _claim(config: DatasetConfig, out: Path) -> None:
    settings = {
        "seed": config.seed,
        "families": config.families,
        "size_hw": list(config.size_hw),
        "depth": config.depth,
        "views_per_scene": VIEWS,
    }
    open_dataset_folder(out, settings, folders=("depth",) if config.depth else ())


def _missing(config: DatasetConfig, out: Path, scene: int) -> list[int]:
    """List the images of one physics scene that are not finished."""
    first = scene * VIEWS
    wanted = range(first, min(first + VIEWS, config.images))
    return [i for i in wanted if not record_path(out, i).exists()]


_gl: Any = None  # the worker's OpenGL context, made by its first job


def _render_job(config: DatasetConfig, out: Path, scene_index: int) -> int:
    """Render the missing views of one physics scene; return how many."""
    count = 0
    for index, jpeg, depth_png, record in render_views(
        config, scene_index, _missing(config, out, scene_index)
    ):
        _write_bytes(out / image_name(index), jpeg)
        if depth_png is not None:
            _write_bytes(out / "depth" / f"{index:06d}.png", depth_png)
        files.write_json(record_path(out, index), record)  # last: marks the image as finished
        count += 1
    return count


def _write_bytes(path: Path, content: bytes) -> None:
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(content)


def render_views(
    config: DatasetConfig, scene_index: int, indices: list[int]
) -> Iterator[tuple[int, bytes, bytes | None, dict[str, Any]]]:
    """Settle one physics scene and yield (index, JPEG, depth PNG, record) for its views."""
    from training.sim.camera_effects import apply_effects, encode_jpeg, sample_effects
    from training.sim.render import GlContext, SceneRenderer, render_truth, sample_camera
    from training.sim.scene import randomise_appearance, settle_scene
    from training.sim.shapes import family_set

    global _gl
    cv2.setNumThreads(1)
    if _gl is None or _gl.size_hw != config.size_hw:
        _gl = GlContext(config.size_hw)
    name = config.families_of(scene_index)
    scene = settle_scene(np.random.default_rng([config.seed, scene_index]), family_set(name))
    renderer = SceneRenderer(scene, _gl)
    try:
        for index in indices:
            rng = np.random.default_rng([config.seed, scene_index, 1 + index % VIEWS])
            randomise_appearance(scene, rng)
            for _ in range(4):  # look again when nothing is in view
                camera = sample_camera(scene, rng, config.size_hw)
                renderer.aim(camera)
                instances, objects = render_truth(renderer, camera)
                if objects:
                    break
            picture = renderer.colour()
            level = float(picture.mean()) / 255
            if objects:  # expose for the objects as much as for the whole
                level = level / 2 + float(picture[instances.visible.any(0)].mean()) / 510
            effects = sample_effects(rng, level)
            jpeg = encode_jpeg(apply_effects(picture, effects, rng), effects.jpeg_quality)
            depth_png = None
            if config.depth:
                depth_mm = np.rint(renderer.depth_m() * 1000)
                depth_mm[depth_mm > 65535] = 0
                depth_png = cv2.imencode(".png", depth_mm.astype(np.uint16))[1].tobytes()
            truth = Scene(
                stamp_ns=0,
                frame_id="camera",
                instances=instances,
                graph=occlusion_graph(instances, TRUTH_CONFIG),
                model_id="truth",
                class_names=CLASS_NAMES,
            )
            annotations, occlusions = amodal_coco.scene_to_annotations(
                truth, image_id=index, first_id=1, predicted=False
            )
            for annotation, i in zip(annotations, objects):
                annotation["family"] = scene.families[i]
            image = amodal_coco.image_record(
                index,
                image_name(index),
                config.size_hw,
                families=name,
                physics_scene=scene_index,
                camera_matrix=[[float(v) for v in row] for row in camera.matrix],
            )
            record = {"image": image, "annotations": annotations, "occlusions": occlusions}
            yield index, jpeg, depth_png, record
    finally:
        renderer.close()
