"""COCOA and COCOA-cls as flat COCO files (the ``*_detectron*.json`` of Follmann et al. 2019).

Each annotation has ``segmentation`` (amodal: polygons, flat or nested, or RLE), ``visible_mask``
and ``invisible_mask`` (RLE, where it is occluded), ``occlude_rate``, ``bbox``, ``area`` and
``category_id``: 1 for "object" in COCOA without stuff, COCO's own 1 to 90 in COCOA-cls.
"""

from __future__ import annotations

import argparse

from training.convert.coco_tables import CocoTables, read_tables, recorded, visible_mask, walk
from training.convert.source import (
    Json,
    Reading,
    Source,
    SourceObject,
    annotation_id,
    whole_number,
)


def read(arguments: argparse.Namespace, reading: Reading) -> Source:
    """Read one flat file.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    tables = read_tables(arguments.source, reading)
    return Source(
        tables.categories,
        walk(tables, reading, lambda *row: read_object(tables, reading, *row)),
        len(tables.images),
    )


def read_object(
    tables: CocoTables, reading: Reading, row: Json, key: int, size_hw: tuple[int, int]
) -> SourceObject:
    """Read one annotation.

    Raises:
        DatasetError: it cannot be understood.
    """
    where = tables.name_of(row)
    amodal = reading.mask(row, "segmentation", size_hw, where)
    extra: Json = {}
    if row.get("isStuff") is not None:
        extra["isstuff"] = whole_number(row, "isStuff", where)
    if isinstance(row.get("name"), str):
        extra["name"] = row["name"].strip()
    return SourceObject(
        key=key,
        category_id=whole_number(row, "category_id", where),
        amodal=amodal,
        visible=visible_mask(row, size_hw, amodal, where, reading),
        id=annotation_id(row, reading.repairs),
        is_crowd=bool(whole_number(row, "iscrowd", where, 0)),
        recorded=recorded(row, {"area": "area", "bbox": "bbox", "occlusion_rate": "occlude_rate"}),
        extra=extra,
    )
