"""D2S amodal (Follmann et al., WACV 2019): supermarket products seen from above.

A flat COCO file; each annotation has ``segmentation`` (RLE, amodal), ``visible_mask`` (RLE),
``invisible_mask``, ``occlude_rate``, ``occl_depth``, and copies of the record that COCOA's tool
made: ``amodal_region`` with the region's ``order`` and ``amodal_base`` with the image's
``depth_constraint``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from training.convert.coco_tables import read_tables, source_of_tables
from training.convert.cocoa import parse_constraints
from training.convert.cocoa_flat import read_object
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceImage


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one file of D2SA.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    tables = read_tables(arguments.source, log)

    def finish(image: SourceImage, rows: list[Json]) -> SourceImage:
        return _with_order(image, rows, str(tables.path), log)

    return source_of_tables(tables, log, read_object, finish)


def _with_order(image: SourceImage, rows: list[Json], path: str, log: RepairLog) -> SourceImage:
    """Take the order from the image's depth constraints, where all its regions have numbers."""
    bases = [row["amodal_base"] for row in rows if isinstance(row.get("amodal_base"), dict)]
    texts = {str(base["depth_constraint"]) for base in bases if "depth_constraint" in base}
    key_of = {}
    for key, row in enumerate(rows):
        region = row.get("amodal_region")
        if isinstance(region, dict) and isinstance(region.get("order"), int):
            key_of[region["order"]] = key
    if len(texts) != 1 or len(key_of) < len(rows):
        if len(texts) > 1:
            log.repairs["images with contradicting depth constraints: order from masks"] += 1
        return image
    where = f"{path}: image {image.id}"
    pairs = parse_constraints(texts.pop(), set(key_of), where, log.repairs)
    order = [(key_of[front], key_of[behind]) for front, behind in pairs]
    return replace(image, order=order, order_from="depth_constraint")
