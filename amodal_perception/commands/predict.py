"""``amodal predict``: image files to a file of predictions and overlays."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from amodal_perception.commands.options import add_pipeline_options, load_pipeline
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.errors import ImageError
from amodal_perception.pipeline import Pipeline
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.structures import Frame

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal predict``."""
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--no-overlays", action="store_true", help="write predictions.json only")
    add_pipeline_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    unreadable = predict(
        arguments.images,
        load_pipeline(arguments),
        arguments.out,
        overlays=not arguments.no_overlays,
    )
    print(f"predictions: {arguments.out / 'predictions.json'}")
    if unreadable:
        print(f"amodal: {len(unreadable)} images could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def list_images(inputs: Sequence[Path]) -> list[Path]:
    """Replace every folder among the inputs by the images in it, sorted by name."""
    paths = []
    for path in inputs:
        if path.is_dir():
            paths += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
        else:
            paths.append(path)
    return paths


def predict(
    inputs: Sequence[Path], pipeline: Pipeline, out_dir: Path, *, overlays: bool = True
) -> list[Path]:
    """Run the pipeline on every image; write ``predictions.json`` and ``overlays/*.png``.

    An image that cannot be read is reported and left out; the rest goes on.

    Args:
        inputs: image files and folders of images.
        pipeline: a loaded model.
        out_dir: made if it is not there.
        overlays: also draw each scene over its image.

    Returns:
        The images that could not be read.

    Raises:
        ImageError: there is no image among the inputs, or none could be read.
    """
    paths = list_images(inputs)
    if not paths:
        raise ImageError(f"{', '.join(map(str, inputs))}: no images here")
    images: list[amodal_coco.Json] = []
    annotations: list[amodal_coco.Json] = []
    occlusions: list[amodal_coco.Json] = []
    unreadable = []
    for path in tqdm(paths, unit="image", disable=len(paths) < 2):
        try:
            image = read_image(path)
        except ImageError as error:
            logger.error("%s", error)
            unreadable.append(path)
            continue
        scene = pipeline(Frame(image))
        image_id = len(images) + 1
        images.append(amodal_coco.image_record(image_id, path.name, scene.instances.size_hw))
        rows, edges = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=len(annotations) + 1
        )
        annotations += rows
        occlusions += edges
        if overlays:
            name = f"{image_id:06d}_{path.stem}.png"
            write_image(out_dir / "overlays" / name, draw_scene(image, scene))
    if not images:
        raise ImageError(f"none of {len(paths)} images could be read")
    metadata = pipeline.runtime.metadata
    amodal_coco.write(
        out_dir / "predictions.json",
        images=images,
        annotations=annotations,
        categories=amodal_coco.categories_of(metadata.class_names),
        occlusions=occlusions,
        info={"model_id": metadata.model_id},
    )
    return unreadable
