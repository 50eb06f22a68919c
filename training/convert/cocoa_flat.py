"""COCOA and COCOA-cls as flat COCO files (the ``*_detectron*.json`` of Follmann et al. 2019).

Each annotation has ``segmentation`` (amodal: polygons, flat or nested, or RLE), ``visible_mask``
and ``invisible_mask`` (RLE, where it is occluded), ``occlude_rate``, ``bbox``, ``area`` and
``category_id``: 1 for "object" in COCOA without stuff, COCO's own 1 to 90 in COCOA-cls.
"""

from __future__ import annotations

import argparse

from training.convert.annotation_row import AnnotationRow
from training.convert.coco_tables import read_tables, source_of_tables
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceObject


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one flat file.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    return source_of_tables(read_tables(arguments.source, log), log, read_object)


def read_object(row: AnnotationRow) -> SourceObject:
    """Read one annotation.

    Raises:
        DatasetError: it cannot be understood.
    """
    amodal = row.mask("segmentation")
    extra: Json = {}
    if row.content.get("isStuff") is not None:
        extra["isstuff"] = row.number("isStuff")
    if isinstance(row.content.get("name"), str):
        extra["name"] = row.content["name"].strip()
    return row.to_object(
        amodal,
        row.visible_mask(amodal),
        recorded=row.recorded(area="area", bbox="bbox", occlusion_rate="occlude_rate"),
        extra=extra,
    )
