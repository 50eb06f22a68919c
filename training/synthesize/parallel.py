"""Generate numbered pictures in one worker process per core, resumable, with a preview."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from amodal_perception import files
from amodal_perception.drawing.overlay import draw_scene
from amodal_perception.errors import DatasetError, one_line
from amodal_perception.ordering import TRUTH_CONFIG, occlusion_graph
from amodal_perception.processes import end_with_parent
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.image_files import read_image, write_image
from amodal_perception.structures import Scene, UInt8Array
from training.image_jobs import (
    image_name,
    merge,
    merge_then_raise,
    open_dataset_folder,
    record_path,
    run_image_jobs,
)

JPEG_QUALITY = 95
PER_JOB = 8
PREVIEW_COLUMNS, PREVIEW_ROWS, PREVIEW_HW = 4, 3, (300, 400)


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture and its truth, whose ids count from 1.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        annotations: amodal COCO rows without ``image_id``.
        occlusions: (occluder, occludee) annotation ids.
        extra: kept in the image's record.
    """

    image: UInt8Array
    annotations: list[Json]
    occlusions: list[tuple[int, int]]
    extra: Json


Draw = Callable[[int], Picture]


def make(
    out: Path,
    draw: Draw,
    count: int,
    *,
    settings: Json,
    class_names: tuple[str, ...],
    workers: int = 0,
) -> None:
    """Make the pictures 0 to `count` - 1 that are missing, then write ``annotations.json``.

    Args:
        out: folder of the data set; a started one is continued.
        draw: makes picture number n.
        count: how many pictures.
        settings: everything that decides what the pictures are, fit for JSON.
        class_names: what ``category_id`` - 1 indexes.
        workers: processes; 0 means one per core.

    Raises:
        DatasetError: the folder holds a data set of other settings.
        ImagesFailedError: some could not be made; the others are merged.
        AmodalError: a worker was killed.
    """
    open_dataset_folder(out, settings)
    missing = [n for n in range(count) if not record_path(out, n).exists()]
    with (
        merge_then_raise(lambda: _finish(out, class_names, settings)),
        tqdm(total=count, initial=count - len(missing), unit="image", desc=str(out)) as bar,
    ):
        for made in _make_all(out, draw, missing, workers or os.cpu_count() or 1):
            bar.update(made)


def _finish(out: Path, class_names: tuple[str, ...], settings: Json) -> None:
    merge(out, class_names, settings)
    write_preview(out)


def write_preview(out: Path) -> None:
    """Write ``preview.jpg``: the first pictures with their masks drawn over them."""
    height, width = PREVIEW_HW
    sheet = np.zeros((PREVIEW_ROWS * height, PREVIEW_COLUMNS * width, 3), np.uint8)
    for place in range(PREVIEW_ROWS * PREVIEW_COLUMNS):
        if not record_path(out, place).exists():
            break
        picture = _overlay(out, json.loads(record_path(out, place).read_text()))
        scale = min(height / picture.shape[0], width / picture.shape[1])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        row, column = divmod(place, PREVIEW_COLUMNS)
        corner = sheet[row * height :, column * width :]
        corner[: picture.shape[0], : picture.shape[1]] = picture
    write_image(out / "preview.jpg", sheet)


def _overlay(out: Path, record: Json) -> UInt8Array:
    solid = [row for row in record["annotations"] if not row["iscrowd"]]
    rows = {row["id"]: {**row, "category_id": 1} for row in solid}
    image_id = record["image"]["id"]
    truth = amodal_coco.AmodalCoco(out, {image_id: record["image"]}, {1: {}}, rows, (), {})
    instances = truth.instances_of(image_id)
    scene = Scene(0, "", instances, occlusion_graph(instances, TRUTH_CONFIG), "truth", ("object",))
    return draw_scene(read_image(out / record["image"]["file_name"]), scene)


def _make_all(out: Path, draw: Draw, numbers: list[int], workers: int) -> Iterator[int]:
    """Make pictures in parallel; yield how many each finished job made."""
    if not numbers:
        return
    global _draw
    _draw = draw
    cv2.setNumThreads(1)
    # A forked process shares what `draw` holds; a spawned one would need a copy of its own.
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)),
        mp_context=multiprocessing.get_context("fork"),
        initializer=end_with_parent,
    )
    starts = range(0, len(numbers), PER_JOB)
    calls = ((out, numbers[i : i + PER_JOB]) for i in starts)
    yield from run_image_jobs(pool, out, _make_job, calls)


_draw: Draw | None = None  # what forked processes take over


def _make_job(out: Path, numbers: list[int]) -> int:
    failed: dict[int, str] = {}
    for number in numbers:
        try:
            _make_one(out, number)
        except OSError:
            raise
        except Exception as error:  # the other pictures of this job go on
            failed[number] = one_line(error)
    if failed:
        raise DatasetError("; ".join(f"picture {n}: {text}" for n, text in failed.items()))
    return len(numbers)


def _make_one(out: Path, number: int) -> None:
    assert _draw is not None
    picture = _draw(number)
    height, width = picture.image.shape[:2]
    bgr = cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    with files.atomic_write(out / image_name(number)) as temporary:
        temporary.write_bytes(jpeg.tobytes())
    record = {
        "image": amodal_coco.image_record(
            number, image_name(number), (height, width), **picture.extra
        ),
        "annotations": [{**row, "image_id": number} for row in picture.annotations],
        "occlusions": [
            {"image_id": number, "occluder_id": front, "occludee_id": behind}
            for front, behind in picture.occlusions
        ],
    }
    files.write_json(record_path(out, number), record)  # last: marks the picture as made
