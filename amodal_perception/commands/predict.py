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
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.raw_masks import paste_detections
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.storage.predictions_file import (
    RAW,
    SCENE,
    PredictionsFile,
    predictions_info,
)
from amodal_perception.structures import Frame

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal predict``."""
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--no-overlays", action="store_true", help="write predictions.json only")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="write what the network gives, as average precision wants it: every detection with "
        "all its own masks, of any score; no overlays and no occlusions",
    )
    add_pipeline_options(parser)
    # Raw predictions have another default, so what was given must be told from what was not.
    parser.set_defaults(score_threshold=None)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    score_threshold = arguments.score_threshold
    if score_threshold is None:
        arguments.score_threshold = PostprocessConfig().score_threshold
    unreadable = predict(
        arguments.images,
        load_pipeline(arguments),
        arguments.out,
        overlays=not arguments.no_overlays,
        raw_above=(score_threshold or 0.0) if arguments.raw else None,
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
    inputs: Sequence[Path],
    pipeline: Pipeline,
    out_dir: Path,
    *,
    overlays: bool = True,
    raw_above: float | None = None,
) -> list[Path]:
    """Run the pipeline on every image; write ``predictions.json`` and ``overlays/*.png``.

    An image that cannot be read is reported and left out; the rest goes on. Memory does not grow
    with the number of images.

    Args:
        inputs: image files and folders of images.
        pipeline: a loaded model.
        out_dir: made if it is not there.
        overlays: also draw each scene over its image.
        raw_above: write what the network gives, without overlays, from this score on; None: the
            scenes.

    Returns:
        The images that could not be read.

    Raises:
        ImageError: there is no image among the inputs, or none could be read.
    """
    paths = list_images(inputs)
    if not paths:
        raise ImageError(f"{', '.join(map(str, inputs))}: no images here")
    metadata = pipeline.runtime.metadata
    unreadable = []
    with PredictionsFile() as predictions:
        for path in tqdm(paths, unit="image", disable=len(paths) < 2):
            try:
                frame = Frame(read_image(path))
            except ImageError as error:
                logger.error("%s", error)
                unreadable.append(path)
                continue
            inference = pipeline.infer(frame)
            if raw_above is not None:
                pasted = paste_detections(
                    inference.raw, inference.transform, score_threshold=raw_above
                )
                predictions.add_raw(pasted, path.name)
                continue
            scene = pipeline.scene(frame, inference)
            image_id = predictions.add(scene, path.name, stamped=False)
            if overlays:
                name = f"{image_id:06d}_{path.stem}.png"
                write_image(out_dir / "overlays" / name, draw_scene(frame.image, scene))
        if len(unreadable) == len(paths):
            raise ImageError(f"none of {len(paths)} images could be read")
        predictions.write(
            out_dir / "predictions.json",
            categories=amodal_coco.categories_of(metadata.class_names),
            info=predictions_info(SCENE if raw_above is None else RAW, metadata),
        )
    return unreadable
