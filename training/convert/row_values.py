"""Numbers and image sizes of JSON rows, or one line that names the row and the key."""

from __future__ import annotations

from typing import Any, Literal

from amodal_perception.errors import DatasetError
from amodal_perception.storage import json_reader
from training.convert.source import Json


def image_size_hw(row: Json, where: str) -> tuple[int, int]:
    """Return the height and width that a row of an image states, pixels.

    Raises:
        DatasetError: they are not those of an image.
    """
    try:
        return json_reader.image_size_hw(row.get("height"), row.get("width"))
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from None


def stated_size_hw(mask: Any, where: str) -> tuple[int, int] | None:
    """Return the height and width that a run-length mask states; None where it states none.

    Raises:
        DatasetError: they are not those of an image.
    """
    size = mask.get("size") if isinstance(mask, dict) else None
    if not isinstance(size, list) or len(size) != 2:
        return None
    return image_size_hw({"height": size[0], "width": size[1]}, where)


def whole_number(
    row: Json, key: str, where: str, default: int | Literal["required"] = "required"
) -> int:
    """Read an integer that may be stored as a float or as digits.

    Raises:
        DatasetError: missing without a default, or no whole number.
    """
    value = row.get(key)
    if value is None and default != "required":
        return default
    if isinstance(value, bool) and default != "required":
        return int(value)  # a flag
    number = json_reader.whole_number(value, text=True)
    if number is None:
        wrong = "is missing" if value is None else f"{value!r:.60} is no whole number"
        raise DatasetError(f"{where}, '{key}': {wrong}")
    return number
