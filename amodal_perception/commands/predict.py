"""``amodal predict``: image files to a file of predictions and overlays."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from amodal_perception.commands.options import add_pipeline_options, load_pipeline
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.errors import GpuLostError, ImageError, one_line
from amodal_perception.files import FilesTogether
from amodal_perception.pipeline import Pipeline
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.raw_masks import paste_detections
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.storage.image_listing import first_of, list_images
from amodal_perception.storage.predictions_file import (
    RAW,
    SCENE,
    PredictionsFile,
    predictions_info,
)
from amodal_perception.structures import Frame

logger = logging.getLogger(__name__)

MAX_STEM = 40  # characters of an image's name in its overlay's: names have at most 255 bytes


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
    parser.add_argument(
        "--grey-bits",
        type=int,
        choices=range(8, 17),
        metavar="BITS",
        help="16-bit grey images are photographs of so many significant bits (8 to 16); else they "
        "are refused, as they may be depth",
    )
    add_pipeline_options(parser)
    # Raw predictions have another default, so what was given must be told from what was not.
    parser.set_defaults(score_threshold=None)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    score_threshold = arguments.score_threshold
    if score_threshold is None:
        arguments.score_threshold = PostprocessConfig().score_threshold
    try:
        failed = predict(
            arguments.images,
            load_pipeline(arguments),
            arguments.out,
            overlays=not arguments.no_overlays,
            raw_above=(score_threshold or 0.0) if arguments.raw else None,
            grey_bits=arguments.grey_bits,
        )
    except KeyboardInterrupt:
        logger.warning("nothing was written to %s", arguments.out)
        raise
    print(f"predictions: {arguments.out / 'predictions.json'}")
    return 1 if failed else 0


def predict(
    inputs: Sequence[Path],
    pipeline: Pipeline,
    out_dir: Path,
    *,
    overlays: bool = True,
    raw_above: float | None = None,
    grey_bits: int | None = None,
) -> list[Path]:
    """Run the pipeline on every image; write ``predictions.json`` and ``overlays/*.png``.

    An image that fails, for whatever reason, is reported and left out; the rest goes on. Results
    are put into their place when all are there: an interrupted run changes nothing. Memory does
    not grow with the number of images.

    Args:
        inputs: image files and folders of images, see `list_images`.
        pipeline: a loaded model.
        out_dir: made if it is not there.
        overlays: also draw each scene over its image.
        raw_above: write what the network gives, without overlays, from this score on; None: the
            scenes.
        grey_bits: significant bits of 16-bit grey images; None refuses them.

    Returns:
        The images that failed.

    Raises:
        ImageError: there is no image among the inputs, or none could be read.
        GpuLostError: the engine is gone.
        OSError: the results cannot be written.
    """
    images = list_images(inputs)
    metadata = pipeline.runtime.metadata
    failed: list[Path] = []
    with PredictionsFile() as predictions, FilesTogether(out_dir / "overlays") as drawings:
        for image in tqdm(images, unit="image", disable=len(images) < 2):
            try:
                frame = Frame(read_image(image.path, grey_bits=grey_bits))
                inference = pipeline.infer(frame)
                if raw_above is not None:
                    pasted = paste_detections(
                        inference.raw, inference.transform, score_threshold=raw_above
                    )
                    predictions.add_raw(pasted, image.name)
                    continue
                scene = pipeline.scene(frame, inference)
                image_id = predictions.add(scene, image.name, stamped=False)
                if overlays:
                    name = f"{image_id:06d}_{image.path.stem[:MAX_STEM]}.png"
                    write_image(drawings.path(name), draw_scene(frame.image, scene))
            except (GpuLostError, OSError):
                raise
            except Exception as error:
                said = one_line(error)
                named = said if str(image.path) in said else f"{image.path}: {said}"
                logger.error("%s", named)
                failed.append(image.path)
        if len(failed) == len(images):
            raise ImageError(f"none of {len(images)} images could be read")
        predictions.write(
            out_dir / "predictions.json",
            categories=amodal_coco.categories_of(metadata.class_names),
            info=predictions_info(SCENE if raw_above is None else RAW, metadata),
        )
        drawings.keep()
    if failed:
        logger.error("%d of %d images failed: %s", len(failed), len(images), first_of(failed))
    return failed
