"""One's own data, labelled by boxes: a visible and an amodal box an object, for BLADE.

COCO exports of any of two kinds: a row for each object with ``bbox`` (amodal) and
``visible_bbox``, or two boxes an object, in layers that are told and paired as `two_layers` does
it with masks. What is written has the boxes, filled, where other data has masks: enough for
``dataset: amodal_boxes``, and no truth about any pixel.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.json_reader import is_number
from training.convert import two_masks
from training.convert.coco_tables import CocoTables, read_tables, walk
from training.convert.source import (
    Json,
    Reading,
    Source,
    SourceObject,
    annotation_id,
    whole_number,
)

add_options = two_masks.add_options
REMARK = "boxes, no masks: train with dataset=amodal_boxes, and measure boxes only"


def read(arguments: argparse.Namespace, reading: Reading) -> Source:
    """Read one export, or two with a layer each.

    Raises:
        DatasetError: no COCO file; an object without its boxes; a layer cannot be told.
    """
    files = [read_tables(arguments.source, reading)]
    if arguments.visible:
        files.append(read_tables(arguments.visible, reading))
    rows = [row for file in files for rows in file.rows_of.values() for row in rows]
    if any("visible_bbox" in row for row in rows):
        tables = files[0]
        images = walk(tables, reading, lambda *row: _object(tables, reading, *row))
        return Source(
            tables.categories, images, len(tables.images), amodal=False, remarks=[REMARK]
        )
    for file in files:
        for row in (row for rows in file.rows_of.values() for row in rows):
            with reading.understanding():
                row["segmentation"] = _rectangle(row, "bbox", file)
    source = two_masks.source_of(files, arguments.id_attribute, reading)
    return replace(source, amodal=False, remarks=[REMARK])


def _object(
    tables: CocoTables, reading: Reading, row: Json, key: int, size_hw: tuple[int, int]
) -> SourceObject:
    where = tables.name_of(row)
    boxes = {"segmentation": _rectangle(row, "bbox", tables)}
    visible = None  # all of it is in view
    if row.get("visible_bbox") is not None:
        boxes["visible"] = _rectangle(row, "visible_bbox", tables)
        visible = reading.mask(boxes, "visible", size_hw, where)
    return SourceObject(
        key=key,
        category_id=whole_number(row, "category_id", where),
        amodal=reading.mask(boxes, "segmentation", size_hw, where),
        visible=visible,
        id=annotation_id(row, reading.repairs),
        is_crowd=bool(whole_number(row, "iscrowd", where, 0)),
    )


def _rectangle(row: Json, key: str, tables: CocoTables) -> list[list[float]]:
    """Return a box, xywh, as a polygon."""
    box: Any = row.get(key)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise DatasetError(f"{tables.name_of(row)}, '{key}': is no box, x, y, width and height")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise DatasetError(f"{tables.name_of(row)}, '{key}': has no area ({width} x {height})")
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
