"""Own labels, a visible and an amodal mask an object: COCO exports of CVAT, Label Studio etc.

Every object is drawn twice: as far as it is seen (visible) and as it would be if nothing stood
before it (amodal). The layers are two exports, or one in which an attribute ``layer`` (CVAT) or
the label's name ("cup visible", "cup_amodal") tells them apart. An object's two masks belong
together by an attribute that both carry, else by IoU among the labels of one class.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodal_perception.errors import DatasetError
from amodal_perception.storage import json_reader
from amodal_perception.storage.coco_rle import Rle, areas_px, overlap_areas, union
from training.convert.coco_tables import CocoTables, image_size, read_tables
from training.convert.repair_log import RepairLog
from training.convert.row_values import whole_number
from training.convert.source import Json, Source, SourceImage, SourceObject

LAYERS = ("amodal", "visible")
SUFFIX = re.compile(
    r"^(?:(amodal|visible)[\s_.:/-]+(.+)|(.+?)[\s_.:/(-]+(amodal|visible)\)?)$", re.I
)
MAX_NAME_LENGTH = 500
MIN_INSIDE = 0.5
"""Share of a visible mask that must lie in an amodal mask before the two can be one object."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this format."""
    parser.add_argument(
        "--visible", type=Path, help="export of the visible layer, where it is a file of its own"
    )
    parser.add_argument(
        "--id-attribute",
        default="object",
        metavar="NAME",
        help="attribute that an object's two masks share (default %(default)r); "
        "masks without it are paired by IoU",
    )


@dataclass(frozen=True)
class _LabelledMask:
    """One mask of an export, with its class, its layer and its object's id."""

    row: Json
    layer: str
    label: str
    where: str
    object_id: str | None
    mask: Rle


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one export with both layers, or two with one each.

    Raises:
        DatasetError: no COCO file; a mask that cannot be understood; a layer cannot be told.
    """
    return source_of(read_layers(arguments, log), arguments.id_attribute, log)


def read_layers(arguments: argparse.Namespace, log: RepairLog) -> list[CocoTables]:
    """Read one export with both layers, or the amodal and the visible one.

    Raises:
        DatasetError: no COCO file.
    """
    paths = [arguments.source, arguments.visible]
    return [read_tables(path, log) for path in paths if path]


def source_of(files: list[CocoTables], id_attribute: str, log: RepairLog) -> Source:
    """Bring the two layers of one or two files together.

    Args:
        files: one with both layers, or the amodal and the visible one.
        id_attribute: what an object's two masks share.
        log: repairs are counted here.
    """
    labels = _labels(files)
    number_of = {label: i for i, label in enumerate(labels, 1)}
    images = _images(files, id_attribute, number_of, log)
    categories = [{"id": number, "name": label} for label, number in number_of.items()]
    return Source(categories, images, len(files[0].images), extend=True)


def split_label(name: str) -> tuple[str, str | None]:
    """Split a label's name into the class and the layer it names, if it names one."""
    # A longer one is no name, and the pattern would take its time.
    match = SUFFIX.match(name.strip()) if len(name) <= MAX_NAME_LENGTH else None
    if match is None:
        return name.strip(), None
    return (match[2] or match[3]).strip(), (match[1] or match[4]).lower()


def _labels(files: list[CocoTables]) -> list[str]:
    """List the classes that are used, without the names of layers, as the files order them."""
    used = {
        row.get("category_id") for file in files for rows in file.rows_of.values() for row in rows
    }
    names = [row["name"] for file in files for row in file.categories if row["id"] in used]
    return list(dict.fromkeys(split_label(name)[0] for name in names))


def _images(
    files: list[CocoTables],
    id_attribute: str,
    number_of: dict[str, int],
    log: RepairLog,
) -> Iterator[SourceImage]:
    for image_id, image, parts in _same_images(files, log):
        rows = [row for file, file_id in parts for row in file.rows_of.get(file_id, [])]
        size_hw = image_size(image, rows, files[0].path, log)
        log.check_run_lengths(rows)
        labelled: list[_LabelledMask] = []
        for index, (file, file_id) in enumerate(parts):
            fixed = LAYERS[index] if len(files) == 2 else None
            for row in file.rows_of.get(file_id, []):
                with log.leave_out_unreadable():
                    labelled.append(_read_label(row, file, fixed, size_hw, id_attribute, log))
        objects = pair_masks(labelled, number_of, log)
        yield SourceImage(image_id, image["file_name"], size_hw, objects)


def _same_images(
    files: list[CocoTables], log: RepairLog
) -> Iterator[tuple[int, Json, list[tuple[CocoTables, int]]]]:
    """Bring together the images of two exports, by file name: tools number them as they like."""
    first = files[0]
    if len(files) == 1:
        for image_id, image in first.images.items():
            yield image_id, image, [(first, image_id)]
        return
    second = {Path(row["file_name"]).name: number for number, row in files[1].images.items()}
    for image_id, image in first.images.items():
        other = second.pop(Path(image["file_name"]).name, None)
        parts = [(first, image_id)]
        if other is not None:
            parts.append((files[1], other))
        else:
            log.repairs["images without a visible layer: objects taken as in full view"] += 1
        yield image_id, image, parts
    left = sum(bool(files[1].rows_of.get(number)) for number in second.values())
    log.repairs["images of the visible layer without an amodal one: left out"] += left


def _read_label(
    row: Json,
    file: CocoTables,
    fixed: str | None,
    size_hw: tuple[int, int],
    id_attribute: str,
    log: RepairLog,
) -> _LabelledMask:
    where = file.name_of(row)
    number = whole_number(row, "category_id", where)
    name = next(category["name"] for category in file.categories if category["id"] == number)
    label, layer = split_label(name)
    attributes = row.get("attributes") if isinstance(row.get("attributes"), dict) else {}
    stated = str(attributes.get("layer", "")).strip().lower()  # type: ignore[union-attr]
    layer = fixed or (stated if stated in LAYERS else layer)
    if layer is None:
        raise DatasetError(
            f"{where}: is it visible or amodal? Neither an attribute 'layer' nor its label "
            f"{name!r} says so; or give the visible layer with --visible"
        )
    if row.get("segmentation") in (None, []) and row.get("bbox"):
        raise DatasetError(f"{where}, 'segmentation': is a box only; draw a polygon or a mask")
    identity = attributes.get(id_attribute)  # type: ignore[union-attr]
    return _LabelledMask(
        row,
        layer,
        label,
        where,
        None if identity in (None, "", 0, "0") else str(identity),
        log.read_mask(row, "segmentation", size_hw, where),
    )


def pair_masks(
    labelled: list[_LabelledMask], number_of: dict[str, int], log: RepairLog
) -> list[SourceObject]:
    """Pair the amodal and visible masks of one image to objects.

    By the shared attribute first. The rest by IoU, highest first, among masks of one class of
    which the visible one lies mostly in the amodal one; visible masks that are left over become
    further parts of the amodal mask they lie in, for what hides an object may cut it in two. What
    stays alone is taken as in full view, which saves a labeller work, and is counted.

    Raises:
        DatasetError: two amodal masks share an id, or one id is on different classes.
    """
    amodal = [d for d in labelled if d.layer == "amodal"]
    visible = [d for d in labelled if d.layer == "visible"]
    parts: list[list[_LabelledMask]] = [[] for _ in amodal]
    rest = _pair_by_id(amodal, visible, parts)
    alone = [i for i, found in enumerate(parts) if not found]
    rest = _pair_by_iou([amodal[i] for i in alone], rest, [parts[i] for i in alone], log)
    without = sum(not found for found in parts)
    log.repairs["amodal masks without a visible one: taken as in full view"] += without
    log.repairs["visible masks without an amodal one: taken as in full view"] += len(rest)
    objects = [
        (whole, union([part.mask for part in found]) if found else None)
        for whole, found in zip(amodal, parts)
    ]
    objects += [(part, None) for part in rest]
    return [
        SourceObject(
            key=key,
            category_id=number_of[whole.label],
            amodal=whole.mask,
            visible=mask,
            id=json_reader.whole_number(whole.row.get("id")),
        )
        for key, (whole, mask) in enumerate(objects)
    ]


def _pair_by_id(
    amodal: list[_LabelledMask], visible: list[_LabelledMask], parts: list[list[_LabelledMask]]
) -> list[_LabelledMask]:
    """Give amodal masks the visible ones with their id; return the visible ones left."""
    index_of: dict[str, int] = {}
    for i, whole in enumerate(amodal):
        if whole.object_id is None:
            continue
        if whole.object_id in index_of:
            raise DatasetError(
                f"{whole.where}: has the same object id {whole.object_id!r} as annotation "
                f"{amodal[index_of[whole.object_id]].row.get('id')}; both are amodal"
            )
        index_of[whole.object_id] = i
    rest = []
    for part in visible:
        if part.object_id not in index_of:
            rest.append(part)
            continue
        index = index_of[part.object_id]
        if part.label != amodal[index].label:
            raise DatasetError(
                f"{part.where}: is a {part.label!r}, but the amodal mask with its object id "
                f"{part.object_id!r} is a {amodal[index].label!r}"
            )
        parts[index].append(part)
    return rest


def _pair_by_iou(
    amodal: list[_LabelledMask],
    visible: list[_LabelledMask],
    parts: list[list[_LabelledMask]],
    log: RepairLog,
) -> list[_LabelledMask]:
    """Give amodal masks the visible ones that fit best; return the visible ones left."""
    if not amodal or not visible:
        return visible
    masks, wholes = [d.mask for d in visible], [d.mask for d in amodal]
    common = overlap_areas(masks, wholes)
    visible_px = np.maximum(areas_px(masks), 1)[:, None]
    iou = common / (visible_px + areas_px(wholes)[None] - common)
    same = np.array([[v.label == a.label for a in amodal] for v in visible])
    allowed = same & (common >= MIN_INSIDE * visible_px)
    left = set(range(len(visible)))
    for flat in np.argsort(-np.where(allowed, iou, -1.0), axis=None, kind="stable"):
        i, j = divmod(int(flat), len(amodal))
        if allowed[i, j] and i in left and not parts[j]:
            parts[j].append(visible[i])
            left.remove(i)
    inside = np.where(allowed, common / visible_px, 0.0)
    for i in sorted(left):
        if inside[i].any():
            parts[int(inside[i].argmax())].append(visible[i])
            left.remove(i)
            log.repairs["visible masks added to an amodal mask that has one: parts"] += 1
    return [visible[i] for i in sorted(left)]
