"""COCOA (Zhu et al., CVPR 2017) as released: one record an image, its regions front to back.

A region has ``segmentation`` (one flat polygon, amodal), ``name``, ``area``, ``isStuff``,
``occlude_rate``, ``order`` (1 is frontmost) and, only where it is occluded, ``visible_mask`` and
``invisible_mask`` (RLE). The record has ``depth_constraint``: "1-2,1-5" says that region 1 is in
front of 2 and of 5. There are no classes: regions have names in free text, and a stuff label.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.coco_rle import Rle, difference, union
from amodal_perception.storage.image_files import read_image
from amodal_perception.storage.json_reader import read_json
from training.convert.annotation_row import AnnotationRow
from training.convert.repair_log import RepairLog
from training.convert.row_values import image_size_hw, stated_size_hw, whole_number
from training.convert.source import Json, Source, SourceImage, SourceObject

CATEGORIES = [{"id": 1, "name": "object"}]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this format."""
    parser.add_argument(
        "--no-stuff", action="store_true", help="leave out regions labelled as stuff (background)"
    )


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read COCOA files; single records, one JSON file an image, are read as well.

    Raises:
        DatasetError: not of this format, or a region that cannot be understood.
    """
    entries = list(load_records(arguments.sources))
    return Source(
        CATEGORIES,
        (
            without_stuff(image) if arguments.no_stuff else image
            for image in read_images(entries, arguments.images, log)
        ),
        len(entries),
        remarks=["COCOA has no classes: every region is an 'object', its own words are in 'name'"],
    )


def load_records(sources: list[Path]) -> Iterator[tuple[Path, Json, Json | None]]:
    """Yield (file, record, image row); the row is None for a record in a file of its own.

    Raises:
        DatasetError: not of this format.
    """
    for path in sources:
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("regions"), list):
            yield path, content, None
            continue
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise DatasetError(f"{path}: neither a COCOA file nor one record of it")
        images = content.get("images")
        rows = {
            whole_number(row, "id", f"{path}: image {row.get('id')!r:.40}"): row
            for row in (images if isinstance(images, list) else ())
            if isinstance(row, dict)
        }
        for record in content["annotations"]:
            if not isinstance(record, dict) or not isinstance(record.get("regions"), list):
                raise DatasetError(
                    f"{path}: annotation {record.get('id') if isinstance(record, dict) else '?'}, "
                    "'regions': is missing; flat files are read as cocoa-flat or cocoa-cls"
                )
            where = f"{path}: record {record.get('id')!r:.40}"
            yield path, record, rows.get(whole_number(record, "image_id", where))


def read_images(
    entries: list[tuple[Path, Json, Json | None]], images_dir: Path | None, log: RepairLog
) -> Iterator[SourceImage]:
    """Read records; where several are of one image, the first is kept.

    Raises:
        DatasetError: a region or an order cannot be understood.
    """
    seen: set[int] = set()
    for path, record, row in entries:
        where = f"{path}: record {record.get('id', '(no id)')}"
        image_id = whole_number(record, "image_id", where)
        if image_id in seen:
            log.repairs["images annotated more than once: only the first kept"] += 1
            continue
        seen.add(image_id)
        file_name = _file_name(path, record, row)
        size_hw = _size_hw(path, record, row, file_name, images_dir)
        yield _read_record(record, image_id, file_name, size_hw, where, log)


def without_stuff(image: SourceImage) -> SourceImage:
    """Drop the regions labelled as stuff; what they hide stays hidden."""
    things = [obj for obj in image.objects if not obj.extra["isstuff"]]
    return replace(image, objects=things)


def _read_record(
    record: Json,
    image_id: int,
    file_name: str,
    size_hw: tuple[int, int],
    where: str,
    log: RepairLog,
) -> SourceImage:
    regions = record["regions"]
    if record.get("size") not in (None, len(regions)):
        log.repairs["records that state another number of regions: counted"] += 1
    amodal: dict[int, Rle] = {}
    rank: dict[int, int] = {}
    unstored: set[int] = set()

    def read_region(number: int, region: Json) -> SourceObject:
        here = f"{where} (image {image_id}), region {number}"
        if not isinstance(region, dict):
            raise DatasetError(f"{here}: is no JSON object")
        polygon = region.get("segmentation")
        if isinstance(polygon, list) and polygon and isinstance(polygon[0], (int, float)):
            region = {**region, "segmentation": [polygon]}  # flat is the form of this format
        row = AnnotationRow(region, number, size_hw, here, log)
        mask = row.mask("segmentation")
        amodal[number] = mask
        rank[number] = row.number("order", number)
        visible = row.stored_visible_mask(mask)
        if visible is None and row.is_hidden("occlude_rate"):
            unstored.add(number)
        return SourceObject(
            key=number,
            category_id=1,
            amodal=mask,
            visible=visible,
            recorded=row.recorded(area="area", occlusion_rate="occlude_rate"),
            extra={
                "name": str(region.get("name", "")).strip(),
                "isstuff": row.number("isStuff", 0),
                "depth_order": rank[number],
            },
        )

    log.check_run_lengths(regions)
    objects = []
    for number, region in enumerate(regions, 1):
        with log.leave_out_unreadable():
            objects.append(read_region(number, region))
    for i, obj in enumerate(objects):
        before = [amodal[number] for number in rank if rank[number] < rank[obj.key]]
        if obj.key in unstored and before:
            objects[i] = replace(obj, visible=difference(obj.amodal, union(before)))
            log.repairs["visible masks missing: rebuilt from the order"] += 1
    # Constraints count regions as they are listed, which is by order.
    listed = [rank[obj.key] for obj in objects]
    by_number = {obj.key: obj.key for obj in objects}
    if listed != sorted(listed):
        log.repairs["regions not listed by their order: constraints follow the order"] += 1
        by_number = {rank[obj.key]: obj.key for obj in objects}
    order = None
    if record.get("depth_constraint") is not None:
        pairs = parse_constraints(record["depth_constraint"], set(by_number), where, log.repairs)
        order = [(by_number[front], by_number[behind]) for front, behind in pairs]
    return SourceImage(image_id, file_name, size_hw, objects, order, "depth_constraint")


def parse_constraints(
    text: Any, known: set[int], where: str, repairs: Counter[str]
) -> list[tuple[int, int]]:
    """Read COCOA's ``depth_constraint``: "1-3,2-3" says that 1 and 2 are in front of 3.

    Args:
        text: the constraints.
        known: numbers that name an object.
        where: for the message.
        repairs: constraints on other numbers are left out and counted here.

    Raises:
        DatasetError: not of this form.
    """
    pairs = []
    for part in str(text).split(",") if text else []:
        if not part.strip():
            continue
        ends = part.split("-")
        try:
            front, behind = (int(end) for end in ends)
        except ValueError:
            raise DatasetError(f"{where}, 'depth_constraint': {part!r} is no pair 'i-j'") from None
        if front in known and behind in known and front != behind:
            pairs.append((front, behind))
        else:
            repairs["depth constraints on regions that are not there: left out"] += 1
    return pairs


def _file_name(path: Path, record: Json, row: Json | None) -> str:
    """Name the photograph: by the image row, a picture beside the record, or the record's URL."""
    if row is not None and isinstance(row.get("file_name"), str):
        return row["file_name"]
    beside = path.with_suffix(".jpg")
    if row is None and beside.is_file():
        return beside.name
    url = record.get("url")
    if isinstance(url, str) and url:
        return url.rsplit("/", 1)[-1]
    raise DatasetError(f"{path}: record {record.get('id')} names no image: no row, no 'url'")


def _size_hw(
    path: Path, record: Json, row: Json | None, file_name: str, images_dir: Path | None
) -> tuple[int, int]:
    """Find the image's size: in its row, in a mask of the record, or in the photograph."""
    if row is not None and row.get("height") and row.get("width"):
        return image_size_hw(row, f"{path}: image {row.get('id')}")
    for region in record["regions"]:
        for key in ("visible_mask", "invisible_mask"):
            mask = region.get(key) if isinstance(region, dict) else None
            size_hw = stated_size_hw(mask, f"{path}: record {record.get('id')}")
            if size_hw is not None:
                return size_hw
    for folder in (images_dir, path.parent):
        if folder is not None and (folder / file_name).is_file():
            height, width = read_image(folder / file_name).shape[:2]
            return height, width
    raise DatasetError(
        f"{path}: record {record.get('id')} states no image size; "
        "point --images at the photographs"
    )
