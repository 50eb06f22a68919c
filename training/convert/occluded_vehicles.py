"""OccludedVehicles (Sun et al., CVPR 2022): PASCAL3D+ vehicles with objects pasted over them.

``{training,testing}/{lists,images,annotations}/<class><tag>/``, the tag ``_raw`` or ``_occluded``
in training and ``FGL<x>_BGL<y>`` (occlusion of object and of context) in testing. Each ``.npz``
has ``category``, ``box`` (y1, x1, y2, x2, height, width) and polygons ``mask`` and
``occluder_mask``; visible is the mask without the occluder's. What was pasted has no class and is
no object of the data set, so there are no occlusion edges.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage.coco_rle import difference
from training.convert.npz_lists import read_npz
from training.convert.repair_log import RepairLog
from training.convert.row_values import image_size_hw
from training.convert.source import Json, Source, SourceImage, SourceObject

CLASSES = ("aeroplane", "bicycle", "bus", "car", "motorbike")
FOLDER = re.compile(rf"({'|'.join(CLASSES)})(_raw|_occluded|FGL(\d)_BGL(\d))")
REMARK = "occluders are no objects of this data set: there are no occlusion edges"


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read a split, ``.../training`` or ``.../testing``, or one of its annotation folders.

    Raises:
        DatasetError: not of this layout, or a file that cannot be understood.
    """
    source: Path = arguments.source
    split = source.parent.parent if FOLDER.fullmatch(source.name) else source
    folders = [source] if split != source else sorted((split / "annotations").glob("*"))
    files: list[tuple[Path, re.Match[str]]] = []
    for folder in folders:
        match = FOLDER.fullmatch(folder.name)
        if match is None:
            log.repairs["folders of another layout: left out"] += 1
            continue
        files += [(path, match) for path in _listed(split, folder, log)]
    if not files:
        raise DatasetError(
            f"{source}: no annotations/<class><tag>/*.npz; give the folder training or testing"
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return Source(categories, _images(files, log), len(files), remarks=[REMARK])


def _listed(split: Path, folder: Path, log: RepairLog) -> list[Path]:
    """Find a folder's files: those in its list, or all where there is no list."""
    there = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    names = split / "lists" / f"{folder.name}.txt"
    if not names.is_file():
        return list(there.values())
    wanted = [Path(line.strip()).stem for line in names.read_text().splitlines() if line.strip()]
    missing = [name for name in wanted if name not in there]
    log.repairs["listed images without annotation: left out"] += len(missing)
    return [there[name] for name in dict.fromkeys(wanted) if name in there]


def _images(files: list[tuple[Path, re.Match[str]]], log: RepairLog) -> Iterator[SourceImage]:
    for number, (path, match) in enumerate(files, 1):
        extra: Json = {"tag": match[2].strip("_")}
        if match[3]:
            extra |= {"foreground_level": int(match[3]), "background_level": int(match[4])}
        name = f"images/{path.parent.name}/{path.stem}.JPEG"
        image = None
        with log.leave_out_unreadable():
            size_hw, obj = _read_file(path, match[1], number, log)
            image = SourceImage(number, name, size_hw, [obj], extra=extra)
        if image is not None:
            yield image


def _read_file(
    path: Path, class_name: str, number: int, log: RepairLog
) -> tuple[tuple[int, int], SourceObject]:
    """Read the one object of an image, and the image's height and width."""
    try:
        content = read_npz(path)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    box = _flat(content.get("box"))
    if len(box) < 6:
        raise DatasetError(f"{path}, 'box': expected y1, x1, y2, x2, height, width, not {box}")
    y1, x1, y2, x2, *size = box
    size_hw = image_size_hw({"height": size[0], "width": size[1]}, f"{path}, 'box'")
    category = str(content.get("category", class_name))
    if category not in CLASSES:
        raise DatasetError(f"{path}, 'category': {category!r} is none of {', '.join(CLASSES)}")
    amodal = log.read_mask(content, "mask", size_hw, str(path))
    visible = None
    if content.get("occluder_mask") not in (None, []):
        occluder = log.read_mask(content, "occluder_mask", size_hw, str(path))
        visible = difference(amodal, occluder)
    return size_hw, SourceObject(
        key=0,
        category_id=CLASSES.index(category) + 1,
        amodal=amodal,
        visible=visible,
        id=number,
        recorded={"bbox": [x1, y1, x2 - x1, y2 - y1]},
    )


def _flat(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list) else []
