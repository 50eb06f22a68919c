"""KINS (Qi et al., CVPR 2019), street scenes of KITTI: the releases of 2019 and of 2020.

2019, ``instances_{train,val}.json``: ``segmentation`` (polygons, amodal), ``inmodal_seg`` (RLE),
``bbox``, ``inmodal_bbox``, ``area``. 2020, ``update_{train,test}_2020.json``: ``a_segm``,
``i_segm``, ``a_bbox``, ``i_bbox``, ``oco_id`` (the cluster of overlapping objects) and ``ico_id``
(the place in it, from the front: 0 overlaps nothing, and it rises with every object behind).
The boxes of both are known to be wrong in places; all are recomputed from masks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import partial

from amodal_perception.errors import DatasetError
from amodal_perception.storage.coco_rle import overlap_areas
from training.convert.annotation_row import AnnotationRow
from training.convert.coco_tables import CocoTables, read_tables, source_of_tables
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceImage, SourceObject

NAMES = {
    1: "cyclist", 2: "pedestrian", 3: "rider", 4: "car",
    5: "tram", 6: "truck", 7: "van", 8: "misc",
}  # fmt: skip
RIDER = 3


@dataclass(frozen=True)
class Keys:
    """What a release calls things."""

    release: str
    amodal: str
    visible: str
    bbox: str
    visible_bbox: str


KEYS_2019 = Keys("kins-2019", "segmentation", "inmodal_seg", "bbox", "inmodal_bbox")
KEYS_2020 = Keys("kins-2020", "a_segm", "i_segm", "a_bbox", "i_bbox")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this format."""
    parser.add_argument(
        "--keep-rider",
        action="store_true",
        help="8 classes: keep 'rider', which is declared in 2020 but has no object (default: 7)",
    )


def read_2019(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read a file of the first release.

    Raises:
        DatasetError: not of this release, or an annotation that cannot be understood.
    """
    return _read(arguments, log, KEYS_2019)


def read_2020(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read a file of the second release.

    Raises:
        DatasetError: not of this release, or an annotation that cannot be understood.
    """
    return _read(arguments, log, KEYS_2020)


def _read(arguments: argparse.Namespace, log: RepairLog, keys: Keys) -> Source:
    tables = read_tables(arguments.source, log, NAMES)
    _check_release(tables, keys)
    used = {row.get("category_id") for rows in tables.rows_of.values() for row in rows}
    categories = tables.categories
    if RIDER not in used and not getattr(arguments, "keep_rider", False):
        categories = [row for row in categories if row["id"] != RIDER]
    names = ", ".join(row["name"] for row in categories)
    remark = f"{len(categories)} classes: {names}"
    if len(categories) < len(tables.categories):
        remark += "; 'rider' is declared but has no object (--keep-rider keeps it)"
    source = source_of_tables(tables, log, partial(_read_object, keys), _with_order)
    return replace(source, categories=categories, remarks=[remark])


def _check_release(tables: CocoTables, keys: Keys) -> None:
    other = KEYS_2020 if keys is KEYS_2019 else KEYS_2019
    for rows in tables.rows_of.values():
        for row in rows:
            if keys.visible not in row and other.visible in row:
                raise DatasetError(
                    f"{tables.name_of(row)}: has '{other.visible}' and no '{keys.visible}': "
                    f"this is the release {other.release}"
                )
            return


def _read_object(keys: Keys, row: AnnotationRow) -> SourceObject:
    area = "a_area" if "a_area" in row.content else "area"
    return row.to_object(
        row.mask(keys.amodal),
        row.mask(keys.visible),
        recorded=row.recorded(area=area, bbox=keys.bbox, visible_bbox=keys.visible_bbox),
        extra={key: row.number(key) for key in ("oco_id", "ico_id") if key in row.content},
    )


def _with_order(image: SourceImage, rows: list[Json]) -> SourceImage:
    """Order the objects of a cluster that overlap by their place in it.

    Two objects of one place do not hide each other, so only pairs of different places count.
    """
    objects = [obj for obj in image.objects if {"oco_id", "ico_id"} <= obj.extra.keys()]
    if not objects or len(objects) < len(image.objects):
        return image
    amodal = [obj.amodal for obj in objects]
    overlap = overlap_areas(amodal, amodal) > 0
    order = [
        (front.key, behind.key)
        for i, front in enumerate(objects)
        for j, behind in enumerate(objects)
        if overlap[i, j]
        and front.extra["oco_id"] == behind.extra["oco_id"]
        and 0 < front.extra["ico_id"] < behind.extra["ico_id"]
    ]
    return replace(image, order=order, order_from="oco_id, ico_id")
