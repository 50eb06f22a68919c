"""What every format is read into: images with their objects, before anything is recomputed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from amodal_perception.errors import DatasetError
from amodal_perception.storage import json_reader
from amodal_perception.storage.coco_rle import Rle
from amodal_perception.storage.mask_reader import look_ahead, read_mask

Json = dict[str, Any]


@dataclass(frozen=True)
class SourceObject:
    """One object as its file has it.

    Attributes:
        key: names the object among those of its image; `SourceImage.order` refers to it.
        category_id: as in `Source.categories`.
        amodal: the complete mask; where the format has none, the visible one.
        visible: the visible mask; None: all of it is in view.
        id: the annotation's id in its file, if it has a whole number there.
        is_crowd: a group of objects under one mask.
        recorded: what the file says of what follows from the masks, in our names (``area``,
            ``bbox``, ``visible_bbox``, ``occlusion_rate``); it is checked, not used.
        extra: kept in the annotation as it is.
    """

    key: int
    category_id: int
    amodal: Rle
    visible: Rle | None
    id: int | None = None
    is_crowd: bool = False
    recorded: Json = field(default_factory=dict)
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class SourceImage:
    """One image and its objects.

    Attributes:
        id: the image's id in its file.
        file_name: as in its file.
        size_hw: height and width, pixels.
        objects: what is in it.
        order: pairs (front, behind) of object keys where the file gives an order, else None.
        order_from: the key of the file that gave `order`.
        extra: kept in the image's record as it is.
    """

    id: int
    file_name: str
    size_hw: tuple[int, int]
    objects: list[SourceObject]
    order: list[tuple[int, int]] | None = None
    order_from: str = ""
    extra: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A file of any format.

    Attributes:
        categories: COCO rows with ``id`` and ``name``.
        images: read while they are walked through.
        count: how many images there are, for the progress bar.
        amodal: whether the complete masks are truth; a modal data set knows only visible ones.
        extend: make the amodal mask hold visible pixels that lie outside it, instead of cutting
            them off; for masks drawn by hand in two layers.
        remarks: what a user should know, said aloud and kept in the file.
    """

    categories: list[Json]
    images: Iterable[SourceImage]
    count: int
    amodal: bool = True
    extend: bool = False
    remarks: list[str] = field(default_factory=list)

    def of_one_class(self, name: str) -> Source:
        """Return the same objects, all of one class of this name."""

        def renamed(image: SourceImage) -> SourceImage:
            objects = [replace(obj, category_id=1) for obj in image.objects]
            return replace(image, objects=objects)

        return replace(
            self, categories=[{"id": 1, "name": name}], images=map(renamed, self.images)
        )


@dataclass
class RepairLog:
    """What was repaired while files were read, and which annotations were left out.

    Attributes:
        leave_out: leave out what is not understood, instead of refusing the file.
        repairs: how often each repair was made.
        left_out: one line for each annotation left out.
    """

    leave_out: bool = False
    repairs: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    _covered: dict[str, int] = field(default_factory=dict, repr=False)

    def check_run_lengths(self, rows: Iterable[Any]) -> None:
        """Check the run-length codes of an image's rows together, which is faster."""
        solid = (row for row in rows if isinstance(row, dict))
        self._covered = look_ahead(value for row in solid for value in row.values())

    @contextmanager
    def leave_out_unreadable(self) -> Iterator[None]:
        """Note an annotation that cannot be read inside as left out, where that is asked for.

        Raises:
            DatasetError: it cannot be understood, and `leave_out` is not set.
        """
        try:
            yield
        except DatasetError as error:
            if not self.leave_out:
                raise
            self.left_out.append(str(error))

    def read_mask(self, row: Json, key: str, size_hw: tuple[int, int], where: str) -> Rle:
        """Read the mask under a key.

        Args:
            row: the annotation.
            key: of the mask.
            size_hw: of the image, pixels.
            where: file and annotation, for the message.

        Raises:
            DatasetError: missing, or not understood; names `where` and the key.
        """
        try:
            return read_mask(row.get(key), size_hw, self.repairs, self._covered)
        except ValueError as error:
            raise DatasetError(f"{where}, '{key}': {error}") from None


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


def is_hidden(row: Json, key: str, where: str) -> bool:
    """Tell whether a row says that a part of its object is hidden, by an occlusion rate.

    Raises:
        DatasetError: the rate is no number.
    """
    rate = row.get(key)
    try:
        return rate is not None and float(rate) > 1e-5
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"{where}, '{key}': {repr(rate)[:60]} is no number") from None


def annotation_id(row: Json, repairs: Counter[str]) -> int | None:
    """Return an annotation's id if it is a whole number; others are given a new one."""
    number = json_reader.whole_number(row.get("id"))
    if number is None:
        repairs["annotation ids that are missing or no whole number: numbered"] += 1
    return number
