"""The rows of an amodal COCO file, each checked once: ids, numbers, boxes, text, masks.

Rows are changed in place to their checked form: whole numbers are ints, masks are compressed RLEs
that cover their image, and what is ``null`` is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.json_reader import image_size_hw, is_number, whole_number
from amodal_perception.storage.mask_reader import look_ahead, read_mask

Json = dict[str, Any]

REFERENCES = ("image_id", "category_id", "segmentation")
"""What no annotation can be without."""
MASKS = ("segmentation", "visible_segmentation", "occluded_segmentation")
BOXES = ("bbox", "visible_bbox")
MASKS_AT_ONCE = 1000
"""Annotations whose run lengths are checked together."""


def read_images(rows: list[Any], path: Path) -> dict[int, Json]:
    """Check the images of a file; return them by id.

    Raises:
        DatasetError: a missing key, a repeated id, no size of an image.
    """
    images = _by_id(rows, path, "image", ("file_name", "height", "width"))
    for row in images.values():
        where = f"{path}: image {row['id']}"
        _check_text(row, "file_name", where)
        try:
            row["height"], row["width"] = image_size_hw(row["height"], row["width"])
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from None
        if "stamp_ns" in row:
            _whole(row, "stamp_ns", where, text=True)  # JavaScript cannot hold it as a number
        if "topic" in row:
            _check_text(row, "topic", where)
    return images


def read_categories(rows: list[Any], path: Path) -> dict[int, Json]:
    """Check the categories of a file; return them by id.

    Raises:
        DatasetError: a missing key, a repeated id, a name that is no text.
    """
    categories = _by_id(rows, path, "category", ("name",))
    for row in categories.values():
        _check_text(row, "name", f"{path}: category {row['id']}")
    return categories


def read_annotations(
    rows: list[Any], images: dict[int, Json], categories: dict[int, Json], path: Path
) -> dict[int, Json]:
    """Check the annotations of a file, and read their masks; return them by id.

    Args:
        rows: as the file has them.
        images: checked images by id.
        categories: checked categories by id.
        path: of the file, for messages.

    Raises:
        DatasetError: a missing key, a repeated or unknown id, a number, box or mask that cannot
            be meant.
    """
    annotations = _by_id(rows, path, "annotation", REFERENCES)
    checked = list(annotations.values())
    for row in checked:
        where = f"{path}: annotation {row['id']}"
        for kind, known in (("image", images), ("category", categories)):
            number = _whole(row, f"{kind}_id", where)
            if number not in known:
                raise DatasetError(f"{where} names {kind} {number}, which is not in the file")
        if not is_number(row.get("score", 0)):
            raise DatasetError(f"{where} needs a finite 'score', but has {row['score']!r:.40}")
        _check_numbers(row, ("area", "occlusion_rate"), where)
        if not 0 <= row.get("occlusion_rate", 0) <= 1:
            rate = row["occlusion_rate"]
            raise DatasetError(f"{where}, 'occlusion_rate': is {rate!r:.40}, expected 0 to 1")
        if not isinstance(row.get("iscrowd"), bool):
            _check_numbers(row, ("iscrowd",), where)
        for key in BOXES:
            box = row.get(key, [0, 0, 0, 0])
            if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
                raise DatasetError(
                    f"{where}, '{key}' is {box!r:.60}, expected x, y, width and height in pixels"
                )
    for first in range(0, len(checked), MASKS_AT_ONCE):
        _read_masks(checked[first : first + MASKS_AT_ONCE], images, path)
    return annotations


def read_pair(row: Any, path: Path, kind: str) -> Json:
    """Check a row that joins two annotations: an occlusion or a depth order.

    Raises:
        DatasetError: no JSON object, or a number that cannot be meant.
    """
    if not isinstance(row, dict):
        raise DatasetError(f"{path}: {kind} {row!r:.40} is no JSON object")
    row = present(row)
    where = f"{path}: {kind} {row!r:.80}"
    for key in ("occluder_id", "occludee_id", "closer_id", "farther_id"):
        if key in row:
            _whole(row, key, where)
    _check_numbers(row, ("confidence", "count"), where)
    if row.get("count", 1) <= 0:
        raise DatasetError(f"{where}: 'count' is {row['count']}, expected 1 or more")
    return row


def present(row: Json) -> Json:
    """Return a row without what is null."""
    if None in row.values():
        return {key: value for key, value in row.items() if value is not None}
    return row


def _by_id(rows: list[Any], path: Path, kind: str, keys: tuple[str, ...]) -> dict[int, Json]:
    indexed: dict[int, Json] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise DatasetError(f"{path}: {kind} {row!r:.40} is no JSON object")
        row = present(row)
        missing = [key for key in ("id", *keys) if key not in row]
        if missing:
            raise DatasetError(f"{path}: {kind} {row.get('id', '?')!r:.40} has no '{missing[0]}'")
        number = _whole(row, "id", f"{path}: {kind} {row['id']!r:.40}")
        if number in indexed:
            raise DatasetError(f"{path}: {kind} id {number} occurs twice")
        indexed[number] = row
    return indexed


def _whole(row: Json, key: str, where: str, *, text: bool = False) -> int:
    """Bring a whole number to its plain form, in the row too."""
    value = row[key]
    number = whole_number(value, text=text)
    if number is None:
        kind = "text" if isinstance(value, str) else "no whole number"
        raise DatasetError(f"{where}, '{key}': is {kind} ({value!r:.40}), expected a whole number")
    row[key] = number
    return number


def _check_text(row: Json, key: str, where: str) -> None:
    value = row[key]
    if not isinstance(value, str) or "\0" in value:
        raise DatasetError(f"{where}, '{key}': is {value!r:.40}, expected text")


def _check_numbers(row: Json, keys: tuple[str, ...], where: str) -> None:
    for key in keys:
        if not is_number(row.get(key, 0)):
            raise DatasetError(f"{where}, '{key}': is {row[key]!r:.40}, expected a number")


def _read_masks(rows: list[Json], images: dict[int, Json], path: Path) -> None:
    covered = look_ahead(row[key] for row in rows for key in MASKS if key in row)
    for row in rows:
        image = images[row["image_id"]]
        for key in MASKS:
            if key not in row:
                continue
            try:
                row[key] = read_mask(row[key], (image["height"], image["width"]), covered=covered)
            except ValueError as error:
                raise DatasetError(f"{path}: annotation {row['id']}, '{key}': {error}") from None
