"""COCOA-cls merged from COCOA and COCO: regions take the class of the instance of highest IoU.

Follmann et al. 2019, section 4: a region that is no stuff keeps the class of the COCO instance
whose mask its visible mask meets with the highest IoU, if that is above 0.75; the others are
dropped, and so are images left without a region. They report 3,501 images and 10,592 objects
kept of 3,823 and 34,916 (train and val together).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from amodal_perception.errors import DatasetError
from amodal_perception.storage import json_reader
from amodal_perception.storage.coco_rle import iou_matrix
from training.convert.coco_tables import CocoTables, image_size, read_tables
from training.convert.cocoa import load_records, read_images
from training.convert.repair_log import RepairLog
from training.convert.row_values import whole_number
from training.convert.source import Source, SourceImage

MIN_IOU = 0.75


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this format."""
    parser.add_argument(
        "--instances",
        type=Path,
        nargs="+",
        required=True,
        help="COCO 2014's instances_*.json of the same images (one or more files)",
    )
    parser.add_argument(
        "--min-iou",
        type=float,
        default=MIN_IOU,
        help="IoU with a COCO mask above which a region takes its class (default %(default)s)",
    )


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read COCOA files, and COCO files with the classes.

    Raises:
        DatasetError: not of this format; an object that cannot be understood; or no image of the
            one is in the other.
    """
    entries = list(load_records(arguments.sources))
    coco = [read_tables(path, log) for path in arguments.instances]
    table_of = {image_id: tables for tables in coco for image_id in tables.images}
    if not any(record.get("image_id") in table_of for _, record, _ in entries):
        raise DatasetError(
            f"{arguments.instances[0]}: has none of the images of {arguments.sources[0]}; "
            "COCOA needs COCO 2014's files"
        )
    categories = {row["id"]: row for tables in coco for row in tables.categories}
    remarks: list[str] = []
    return Source(
        [categories[number] for number in sorted(categories)],
        _images(entries, table_of, arguments, log, remarks),
        len(entries),
        remarks=remarks,
    )


def _images(
    entries: list,
    table_of: dict[int, CocoTables],
    arguments: argparse.Namespace,
    log: RepairLog,
    remarks: list[str],
) -> Iterator[SourceImage]:
    images = regions = kept_images = kept_regions = without_table = 0
    for image in read_images(entries, arguments.images, log):
        images += 1
        regions += len(image.objects)
        if image.id not in table_of:
            without_table += 1
            continue
        merged = with_classes(image, table_of[image.id], log, arguments.min_iou)
        if merged.objects:
            kept_images += 1
            kept_regions += len(merged.objects)
            yield merged
    remarks.append(
        f"kept {kept_images} of {images} images and {kept_regions} of {regions} regions; "
        "published for train and val: 3,501 of 3,823 and 10,592 of 34,916"
    )
    if without_table:
        remarks.append(f"{without_table} images are in no file of --instances and were dropped")


def with_classes(
    image: SourceImage, tables: CocoTables, log: RepairLog, min_iou: float = MIN_IOU
) -> SourceImage:
    """Keep the regions that are an instance of COCO, with its class and its id.

    Args:
        image: a COCOA image.
        tables: the COCO file that has it.
        log: repairs are counted here.
        min_iou: IoU of visible mask and instance mask above which they are the same object.
    """
    rows = [row for row in tables.rows_of.get(image.id, []) if not row.get("iscrowd")]
    things = [obj for obj in image.objects if not obj.extra["isstuff"]]
    if not rows or not things:
        return replace(image, objects=[])
    size_hw = image_size(tables.images[image.id], rows, tables.path, log)
    if size_hw != image.size_hw:
        raise DatasetError(
            f"{tables.path}: image {image.id} is {size_hw[0]} x {size_hw[1]}, "
            f"but in COCOA {image.size_hw[0]} x {image.size_hw[1]} (height x width)"
        )
    masks = [log.read_mask(row, "segmentation", size_hw, tables.name_of(row)) for row in rows]
    visible = [obj.amodal if obj.visible is None else obj.visible for obj in things]
    iou = np.nan_to_num(iou_matrix(visible, masks))
    best = iou.argmax(axis=1)
    return replace(
        image,
        objects=[
            replace(
                obj,
                category_id=whole_number(rows[j], "category_id", tables.name_of(rows[j])),
                extra={
                    **obj.extra,
                    "coco_id": json_reader.whole_number(rows[j].get("id")),
                },
            )
            for obj, j, value in zip(things, best, iou.max(axis=1))
            if value > min_iou
        ],
    )
