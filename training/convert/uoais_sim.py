"""UOAIS-Sim (Back et al., ICRA 2022), and tabletop generators that write the same layout.

Image rows have ``depth_file_name`` and ``occlusion_order_file_name``, relative to the data set's
folder; the latter is an N x N array (.npy) whose rows and columns follow the image's annotations:
entry (i, j) is 1 when i hides a part of j. Annotations have ``segmentation`` (amodal),
``visible_mask`` and ``occluded_mask`` (RLE), ``bbox``, ``visible_bbox`` and ``occluded_rate``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from amodal_perception.errors import DatasetError
from training.convert.annotation_row import AnnotationRow
from training.convert.coco_tables import CocoTables, read_tables, source_of_tables
from training.convert.repair_log import RepairLog
from training.convert.source import Json, Source, SourceImage, SourceObject


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of this format."""
    parser.add_argument(
        "--root",
        type=Path,
        help="folder that the paths in the file start from (default: the file's own or one above)",
    )


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one file, and the order matrices it names.

    Raises:
        DatasetError: not of this format, or an annotation or matrix that cannot be understood.
    """
    tables = read_tables(arguments.source, log, {1: "object"})
    root = arguments.root or _find_root(tables)

    def finish(image: SourceImage, rows: list[Json]) -> SourceImage:
        return _with_order(image, tables.images[image.id], len(rows), root, log)

    return source_of_tables(tables, log, _read_object, finish)


def _read_object(row: AnnotationRow) -> SourceObject:
    content = row.content
    content.update(category_id=row.number("category_id", 1), iscrowd=0)  # one class, no crowds
    amodal = row.mask("segmentation")
    return row.to_object(
        amodal,
        row.visible_mask(amodal, hidden_key="occluded_mask", rate_key="occluded_rate"),
        recorded=row.recorded(
            area="area", bbox="bbox", visible_bbox="visible_bbox", occlusion_rate="occluded_rate"
        ),
        extra={k: content[k] for k in ("object_name",) if isinstance(content.get(k), str)},
    )


def _with_order(
    image: SourceImage, row: Json, objects: int, root: Path | None, log: RepairLog
) -> SourceImage:
    """Take the order from the matrix that the image's row names, where it fits the objects."""
    extra = {k: row[k] for k in ("depth_file_name",) if isinstance(row.get(k), str)}
    image = replace(image, extra=extra)
    name = row.get("occlusion_order_file_name")
    if not isinstance(name, str):
        return image
    if root is None or not (root / name).is_file():
        log.repairs["order matrices that are not there: order from masks"] += 1
        return image
    matrix = _read_matrix(root / name)
    if matrix.shape != (objects, objects):
        log.repairs["order matrices of another size than the image: from masks"] += 1
        return image
    order = [(i, j) for i, j in np.argwhere(matrix == 1).tolist() if i != j]
    return replace(image, order=order, order_from="occlusion_order_file_name")


def _read_matrix(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DatasetError(f"{path}: is no array of numbers ({error})") from None


def _find_root(tables: CocoTables) -> Path | None:
    """Return the folder, the file's own or above it, in which the first matrix lies."""
    names = (row.get("occlusion_order_file_name") for row in tables.images.values())
    name = next((name for name in names if isinstance(name, str)), None)
    folders = [tables.path.resolve().parent, *tables.path.resolve().parents][:4]
    return next((folder for folder in folders if name and (folder / name).is_file()), None)
