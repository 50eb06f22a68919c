"""Resumable data-set generation: images made one by one in worker processes, then merged.

It may be interrupted at any moment: an image counts as made once its record is written, which
is last. As image
number n depends on the settings and n alone, the bytes are the same for any number of processes
and interruptions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodal_perception import files
from amodal_perception.errors import AmodalError, DatasetError, one_line
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import Json

logger = logging.getLogger(__name__)

SETTINGS_NAME = "settings.json"


def image_name(number: int) -> str:
    """Path of an image relative to the data set's folder."""
    return f"images/{number:06d}.jpg"


def record_path(out: Path, number: int) -> Path:
    """Path of an image's annotations before they are merged."""
    return out / "records" / f"{number:06d}.json"


def open_dataset_folder(out: Path, settings: Json, *, folders: Iterable[str] = ()) -> None:
    """Make the data set's folders, or continue those of the same settings.

    Args:
        out: folder of the data set.
        settings: everything that decides what the images are, fit for JSON.
        folders: needed beside those of images and records.

    Raises:
        DatasetError: it holds a data set of other settings.
    """
    path = out / SETTINGS_NAME
    settings = json.loads(json.dumps(settings))  # as it comes back from the file
    if path.exists() and (found := read_settings(out)) != settings:
        keys = [k for k in {**settings, **found} if settings.get(k) != found.get(k)]
        raise DatasetError(
            f"{path}: holds a data set of another {', '.join(keys)}; choose another --out"
        )
    for folder in ("images", "records", *folders):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for unfinished in (out / folder).glob(".*.tmp"):  # of a killed run
            unfinished.unlink()
    files.write_json(path, settings)


def read_settings(out: Path) -> Json:
    """Read the settings of a data set.

    Raises:
        DatasetError: there are none.
    """
    path = out / SETTINGS_NAME
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); is it a data set?") from None


def merge(out: Path, class_names: tuple[str, ...], info: Json) -> int:
    """Write ``annotations.json`` from the records there are, holding one of them at a time.

    Returns:
        The number of images.
    """
    images, occlusions, first_id = [], [], 0
    records = sorted((out / "records").glob("[0-9]*.json"), key=lambda path: int(path.stem))
    with files.atomic_write(out / "annotations.json") as temporary, open(temporary, "w") as file:
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
    return len(images)


def run_image_jobs(
    pool: ProcessPoolExecutor, out: Path, job: Callable[..., int], calls: Iterable[tuple[Any, ...]]
) -> Iterator[int]:
    """Call `job` with each tuple of arguments in the pool's processes, and end the pool.

    A job that fails is reported by its last argument, and the others go on.

    Yields:
        What each finished call returned: how many images it made.

    Raises:
        ImagesFailedError: at the end, if jobs failed.
        AmodalError: a process was killed, or what every job needs is not there.
        OSError: nothing can be written.
    """
    failed: list[str] = []
    try:
        jobs = {pool.submit(job, *arguments): arguments[-1] for arguments in calls}
        for done in as_completed(jobs):
            try:
                made = done.result()
            except (OSError, ModuleNotFoundError, BrokenProcessPool):
                raise
            except Exception as error:
                if type(error) is AmodalError:
                    raise
                failed.append(f"{jobs[done]}: {one_line(error)}")
                logger.error("%s", failed[-1])
                continue
            yield made
    except BrokenProcessPool:
        raise AmodalError(
            f"{out}: a worker process was killed (out of memory?); "
            "run the same command again to continue, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed and len(failed) == len(jobs):
        raise AmodalError(f"{out}: all {len(failed)} jobs failed, such as {failed[0]}")
    if failed:
        raise ImagesFailedError(
            f"{out}: {len(failed)} of {len(jobs)} jobs failed, their images are missing; "
            "the same command tries them again"
        )


class ImagesFailedError(AmodalError):
    """Some images could not be made; all others are there."""


@contextmanager
def merge_then_raise(merge: Callable[[], object]) -> Iterator[None]:
    """Merge what there is after the block, also where single jobs failed in it."""
    try:
        yield
    except ImagesFailedError:
        merge()
        raise
    merge()
