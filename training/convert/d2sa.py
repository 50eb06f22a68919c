"""D2S amodal (Follmann et al., WACV 2019): supermarket products seen from above.

A flat COCO file; each annotation has ``segmentation`` (RLE, amodal), ``visible_mask`` (RLE),
``invisible_mask``, ``occlude_rate``, ``occl_depth``, and copies of the record that COCOA's tool
made: ``amodal_region`` with the region's ``order`` and ``amodal_base`` with the image's
``depth_constraint``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from training.convert.coco_tables import parse_constraints, read_tables, walk
from training.convert.cocoa_flat import read_object
from training.convert.source import Json, Reading, Source, SourceImage


def read(arguments: argparse.Namespace, reading: Reading) -> Source:
    """Read one file of D2SA.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    tables = read_tables(arguments.source, reading)
    return Source(
        tables.categories,
        walk(
            tables,
            reading,
            lambda *row: read_object(tables, reading, *row),
            lambda image, rows: _ordered(image, rows, str(tables.path), reading),
        ),
        len(tables.images),
    )


def _ordered(image: SourceImage, rows: list[Json], path: str, reading: Reading) -> SourceImage:
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
            reading.repairs["images with contradicting depth constraints: order from masks"] += 1
        return image
    where = f"{path}: image {image.id}"
    pairs = parse_constraints(texts.pop(), set(key_of), where, reading.repairs)
    order = [(key_of[front], key_of[behind]) for front, behind in pairs]
    return replace(image, order=order, order_from="depth_constraint")
