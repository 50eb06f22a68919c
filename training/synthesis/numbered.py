"""Make numbered pictures on every core, so that a killed run goes on without loss or repetition.

A picture counts as made once its record is written, and the record is written last. As picture
number n depends on the settings and n alone, the bytes are the same for any number of processes
and interruptions.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from amodal_perception import amodal_coco, files
from amodal_perception.amodal_coco import Json
from amodal_perception.errors import AmodalError, DatasetError
from amodal_perception.images import read_image, write_image
from amodal_perception.ordering import occlusion_graph
from amodal_perception.structures import Scene, UInt8Array
from amodal_perception.visualize import draw_scene

JPEG_QUALITY = 95
PER_JOB = 8
SETTINGS_NAME = "settings.json"
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
        AmodalError: a worker was killed.
    """
    _claim(out, settings)
    missing = [n for n in range(count) if not record_path(out, n).exists()]
    with tqdm(total=count, initial=count - len(missing), unit="image", desc=str(out)) as bar:
        for made in _make_all(out, draw, missing, workers or os.cpu_count() or 1):
            bar.update(made)
    merge(out, class_names, settings)
    write_preview(out)


def image_name(number: int) -> str:
    """Path of a picture relative to the data set's folder."""
    return f"images/{number:06d}.jpg"


def record_path(out: Path, number: int) -> Path:
    """Path of a picture's annotations before they are merged."""
    return out / "records" / f"{number:06d}.json"


def merge(out: Path, class_names: tuple[str, ...], info: Json) -> None:
    """Write ``annotations.json`` from the records there are, holding one of them at a time."""
    images, occlusions, first_id = [], [], 0
    records = sorted((out / "records").glob("[0-9]*.json"), key=lambda path: int(path.stem))
    with files.replacing(out / "annotations.json") as temporary, open(temporary, "w") as file:
        categories = amodal_coco.categories_of(class_names)
        file.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps(categories)}')
        file.write(', "annotations": [')
        for path in tqdm(records, unit="record", desc="annotations.json", delay=2):
            record = json.loads(path.read_text())
            images.append(record["image"])
            for row in record["annotations"]:
                row["id"] += first_id
                file.write((",\n" if row["id"] > 1 else "\n") + json.dumps(row))
            for row in record["occlusions"]:
                row["occluder_id"] += first_id
                row["occludee_id"] += first_id
                occlusions.append(row)
            first_id += len(record["annotations"])
        file.write(f'], "images": {json.dumps(images)}, "occlusions": {json.dumps(occlusions)}}}')
        file.write("\n")


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
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
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
    scene = Scene(0, "", instances, occlusion_graph(instances), "truth", ("object",))
    return draw_scene(read_image(out / record["image"]["file_name"]), scene)


def _claim(out: Path, settings: Json) -> None:
    path = out / SETTINGS_NAME
    settings = json.loads(json.dumps(settings))  # as it comes back from the file
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read ({error})") from None
        if found != settings:
            keys = [k for k in {**settings, **found} if settings.get(k) != found.get(k)]
            raise DatasetError(
                f"{path}: holds a data set of another {', '.join(keys)}; choose another --out"
            )
    for folder in ("images", "records"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for unfinished in (out / folder).glob(".*.tmp"):  # of a killed run
            unfinished.unlink()
    files.write_json(path, settings)


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
        initializer=_end_with_parent,
    )
    try:
        starts = range(0, len(numbers), PER_JOB)
        jobs = [pool.submit(_make_job, out, numbers[i : i + PER_JOB]) for i in starts]
        for job in as_completed(jobs):
            yield job.result()
    except BrokenProcessPool:
        raise AmodalError(
            f"{out}: a worker process was killed (out of memory?); "
            "run the same command again to continue, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_draw: Draw | None = None  # what forked processes take over


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is killed."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _make_job(out: Path, numbers: list[int]) -> int:
    assert _draw is not None
    for number in numbers:
        picture = _draw(number)
        height, width = picture.image.shape[:2]
        bgr = cv2.cvtColor(picture.image, cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        with files.replacing(out / image_name(number)) as temporary:
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
    return len(numbers)
