"""Own labels, a visible and an amodal box an object: box supervision for BLADE.

COCO exports of either of two kinds: a row for each object with ``bbox`` (amodal) and
``visible_bbox``, or two boxes an object, in layers that are told and paired as `two_masks` does
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
from training.convert.annotation_row import AnnotationRow
from training.convert.coco_tables import CocoTables, source_of_tables
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceObject

add_options = two_masks.add_options
REMARK = "boxes, no masks: train with dataset=amodal_boxes, and measure boxes only"


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one export, or two with a layer each.

    Raises:
        DatasetError: no COCO file; an object without its boxes; a layer cannot be told.
    """
    files = two_masks.read_layers(arguments, log)
    rows = (row for file in files for rows in file.rows_of.values() for row in rows)
    if any("visible_bbox" in row for row in rows):
        source = source_of_tables(files[0], log, _read_object)
    else:
        for file in files:
            _add_rectangles(file, log)
        source = two_masks.source_of(files, arguments.id_attribute, log)
    return replace(source, amodal=False, remarks=[REMARK])


def _read_object(row: AnnotationRow) -> SourceObject:
    content = row.content
    content["segmentation"] = _rectangle(content, "bbox", row.where)
    visible = None  # all of it is in view
    if content.get("visible_bbox") is not None:
        content["visible"] = _rectangle(content, "visible_bbox", row.where)
        visible = row.mask("visible")
    return row.to_object(row.mask("segmentation"), visible)


def _add_rectangles(file: CocoTables, log: RepairLog) -> None:
    """Give every row its box as a mask; a row without a box can be left out."""
    for image_id, rows in file.rows_of.items():
        kept = file.rows_of[image_id] = []
        for row in rows:
            with log.leave_out_unreadable():
                row["segmentation"] = _rectangle(row, "bbox", file.name_of(row))
                kept.append(row)


def _rectangle(row: Json, key: str, where: str) -> list[list[float]]:
    """Return a box, xywh, as a polygon."""
    box: Any = row.get(key)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise DatasetError(f"{where}, '{key}': is no box, x, y, width and height")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise DatasetError(f"{where}, '{key}': has no area ({width} x {height})")
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
