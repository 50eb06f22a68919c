"""COCO's instances (Lin et al. 2014): modal masks. No amodal truth is made up.

The masks become both ``segmentation`` and ``visible_segmentation``; there is no occlusion rate
and no occlusion, and ``info.amodal_truth`` is false. Crowds stay crowds.
"""

from __future__ import annotations

import argparse

from training.convert.coco_tables import CocoTables, read_tables, recorded, walk
from training.convert.source import (
    Json,
    Reading,
    Source,
    SourceObject,
    annotation_id,
    whole_number,
)


def read(arguments: argparse.Namespace, reading: Reading) -> Source:
    """Read one file.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    tables = read_tables(arguments.source, reading)
    return Source(
        tables.categories,
        walk(tables, reading, lambda *row: _object(tables, reading, *row)),
        len(tables.images),
        amodal=False,
        remarks=["visible masks only: nothing is known of what is hidden (info.amodal_truth)"],
    )


def _object(
    tables: CocoTables, reading: Reading, row: Json, key: int, size_hw: tuple[int, int]
) -> SourceObject:
    where = tables.name_of(row)
    return SourceObject(
        key=key,
        category_id=whole_number(row, "category_id", where),
        amodal=reading.mask(row, "segmentation", size_hw, where),
        visible=None,
        id=annotation_id(row, reading.repairs),
        is_crowd=bool(whole_number(row, "iscrowd", where, 0)),
        recorded=recorded(row, {"area": "area", "bbox": "bbox"}),
    )
