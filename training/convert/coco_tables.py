"""Flat COCO files: tables of images, categories and annotations, and the objects in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.json_reader import read_json
from training.convert.annotation_row import AnnotationRow
from training.convert.repair_log import RepairLog
from training.convert.row_values import image_size_hw, stated_size_hw, whole_number
from training.convert.source import Json, Source, SourceImage, SourceObject


@dataclass(frozen=True)
class CocoTables:
    """A flat COCO file.

    Attributes:
        path: of the file.
        images: rows by id.
        categories: rows with ``id`` and ``name``.
        rows_of: annotation rows by image id, in file order.
    """

    path: Path
    images: dict[int, Json]
    categories: list[Json]
    rows_of: dict[int, list[Json]]

    def name_of(self, row: Json) -> str:
        """Say where a row is, for messages."""
        return f"{self.path}: annotation {row.get('id', '(no id)')}"


def read_tables(path: Path, log: RepairLog, names: dict[int, str] | None = None) -> CocoTables:
    """Read a flat COCO file.

    Args:
        path: the JSON file.
        log: repairs are counted here.
        names: category names, where the file should have none.

    Raises:
        DatasetError: no COCO file, or rows that contradict each other.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: is no COCO file: expected an object with images, annotations")
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: has no list '{key}'")
    images = _images(content["images"], path, log)
    categories = _categories(content.get("categories"), path)
    rows_of: dict[int, list[Json]] = defaultdict(list)
    seen: dict[Any, Json] = {}
    for row in content["annotations"]:
        if not isinstance(row, dict):
            raise DatasetError(f"{path}: annotation {row!r:.40} is no JSON object")
        where = f"{path}: annotation {row.get('id', '(no id)')}"
        if isinstance(row.get("id"), (list, dict)):
            raise DatasetError(f"{where}, 'id': is neither a number nor text")
        twin = seen.setdefault(row.get("id"), row)
        if twin is not row and row.get("id") is not None and twin == row:
            log.repairs["annotations stored twice: one kept"] += 1
            continue
        with log.leave_out_unreadable():
            image_id = whole_number(row, "image_id", where)
            if image_id not in images:
                raise DatasetError(f"{where}, 'image_id': no image {image_id} is in the file")
            if row.get("category_id") is not None:
                number = row["category_id"] = whole_number(row, "category_id", where)
                if number not in categories and number < 0:
                    raise DatasetError(f"{where}, 'category_id': no category {number} is listed")
                if number not in categories:
                    name = (names or {}).get(number, f"category {number}")
                    categories[number] = {"id": number, "name": name}
                    log.repairs["categories used but not listed: added"] += 1
            rows_of[image_id].append(row)
    listed = [categories[number] for number in sorted(categories)]
    return CocoTables(path, images, listed, rows_of)


def _images(rows: list[Any], path: Path, log: RepairLog) -> dict[int, Json]:
    images: dict[int, Json] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise DatasetError(f"{path}: image {row!r:.40} is no JSON object")
        where = f"{path}: image {row.get('id', '(no id)')}"
        image_id = whole_number(row, "id", where)
        if not isinstance(row.get("file_name"), str):
            raise DatasetError(f"{where}, 'file_name': is missing")
        known = images.get(image_id)
        if known is not None:
            if any(known.get(key) != row.get(key) for key in ("file_name", "height", "width")):
                raise DatasetError(
                    f"{where}: is listed twice, as {known['file_name']} and {row['file_name']}, "
                    "or with different sizes"
                )
            log.repairs["image rows stored twice: one kept"] += 1
            continue
        images[image_id] = row
    return images


def _categories(rows: Any, path: Path) -> dict[int, Json]:
    categories = {}
    for row in rows if isinstance(rows, list) else []:
        where = f"{path}: category {row!r:.40}"
        if not isinstance(row, dict):
            raise DatasetError(f"{where} is no JSON object")
        number = whole_number(row, "id", where)
        categories[number] = {**row, "id": number, "name": str(row.get("name", number))}
    return categories


def image_size(image: Json, rows: list[Json], path: Path, log: RepairLog) -> tuple[int, int]:
    """Return height and width, from the row, or from the masks where the row has none.

    Raises:
        DatasetError: neither has them, or they are not those of an image.
    """
    where = f"{path}: image {image['id']}"
    if image.get("height") and image.get("width"):
        return image_size_hw(image, where)
    for row in rows:
        for value in row.values():
            size_hw = stated_size_hw(value, where)
            if size_hw is not None:
                log.repairs["image rows without a size: the masks' was taken"] += 1
                return size_hw
    raise DatasetError(f"{where}, 'height' and 'width': are missing, and no mask states them")


def source_of_tables(
    tables: CocoTables,
    log: RepairLog,
    read_object: Callable[[AnnotationRow], SourceObject],
    finish: Callable[[SourceImage, list[Json]], SourceImage] = lambda image, rows: image,
) -> Source:
    """Read a flat COCO file by what its format says of one annotation, and of an image's order.

    Args:
        tables: the file; its annotation rows are taken out of the tables as they are read.
        log: repairs are counted here.
        read_object: makes an object of an annotation row.
        finish: adds what an image's rows know together, such as an order.
    """
    images = _read_images(tables, log, read_object, finish)
    return Source(tables.categories, images, len(tables.images))


def _read_images(
    tables: CocoTables,
    log: RepairLog,
    read_object: Callable[[AnnotationRow], SourceObject],
    finish: Callable[[SourceImage, list[Json]], SourceImage],
) -> Iterator[SourceImage]:
    for image_id, image in tables.images.items():
        rows = tables.rows_of.pop(image_id, [])  # large files: what was read is let go
        if not rows and not (image.get("height") and image.get("width")):
            log.repairs["images without size and objects: left out"] += 1
            continue
        size_hw = image_size(image, rows, tables.path, log)
        log.check_run_lengths(rows)
        objects = []
        for key, row in enumerate(rows):
            with log.leave_out_unreadable():
                where = tables.name_of(row)
                objects.append(read_object(AnnotationRow(row, key, size_hw, where, log)))
        yield finish(SourceImage(image_id, image["file_name"], size_hw, objects), rows)
