"""Give predictions the image and category ids of the truth, or say why that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.json_reader import read_json


def read_predictions(path: Path, truth: AmodalCoco) -> AmodalCoco:
    """Read predictions: the amodal COCO format, or a plain COCO list of results.

    Args:
        path: the file.
        truth: what it predicts; a plain list has its image and category ids.

    Raises:
        DatasetError: not readable, or against the format.
    """
    path = Path(path)
    content = read_json(path)
    if isinstance(content, list):
        return amodal_coco.from_results(content, path, truth)
    return amodal_coco.from_json(content, path)


def align(truth: AmodalCoco, predictions: AmodalCoco) -> AmodalCoco:
    """Return the predictions with the truth's ids.

    Images are the same when their stamps (``stamp_ns``) are equal, or, where either file has
    none, their file names, without folders if need be. Categories are the same when their names
    are.

    Raises:
        DatasetError: a prediction without a score, an image or a category that the truth does
            not have, or another image size.
    """
    for row in predictions.annotations.values():
        if "score" not in row:
            raise DatasetError(
                f"{predictions.path}: annotation {row['id']} needs a finite 'score' to be a "
                "prediction, but has none"
            )
    image_id_of = _image_ids(truth, predictions)
    category_id_of = _category_ids(truth, predictions)
    annotations = {
        row["id"]: {
            **row,
            "image_id": image_id_of[row["image_id"]],
            "category_id": category_id_of[row["category_id"]],
        }
        for row in predictions.annotations.values()
    }
    return replace(
        predictions, images=truth.images, categories=truth.categories, annotations=annotations
    )


def only_images(scenes: AmodalCoco, image_ids: set[int]) -> AmodalCoco:
    """Return the part of a file that is about some of its images."""
    annotations = {
        row["id"]: row for row in scenes.annotations.values() if row["image_id"] in image_ids
    }
    return replace(
        scenes,
        images={i: row for i, row in scenes.images.items() if i in image_ids},
        annotations=annotations,
        occlusions=tuple(edge for edge in scenes.occlusions if edge["occluder_id"] in annotations),
        depth_orders=tuple(
            order for order in scenes.depth_orders if order["closer_id"] in annotations
        ),
    )


def _image_ids(truth: AmodalCoco, predictions: AmodalCoco) -> dict[int, int]:
    """Map the predictions' image ids to the truth's."""
    key, name_of = _image_key(truth, predictions)
    true_ids: dict[Any, int] = {}
    for true_id, row in truth.images.items():
        if name_of(row) in true_ids:
            raise DatasetError(f"{truth.path}: two images have the {key} {name_of(row)!r}")
        true_ids[name_of(row)] = true_id
    image_id_of: dict[int, int] = {}
    for image_id, row in predictions.images.items():
        name = name_of(row)
        if name not in true_ids:
            raise DatasetError(
                f"{predictions.path}: image {name!r} ({key}) is not in {truth.path}"
            )
        true_row = truth.images[true_ids[name]]
        size, true_size = ((r["height"], r["width"]) for r in (row, true_row))
        if size != true_size:
            raise DatasetError(
                f"{predictions.path}: image {name!r} is {size[0]} x {size[1]} (height x "
                f"width), but {true_size[0]} x {true_size[1]} in {truth.path}"
            )
        image_id_of[image_id] = true_row["id"]
    if len(set(image_id_of.values())) < len(image_id_of):
        raise DatasetError(f"{predictions.path}: two images have the same {key}")
    return image_id_of


def _image_key(
    truth: AmodalCoco, predictions: AmodalCoco
) -> tuple[str, Callable[[Json], int | str]]:
    """Choose what tells which image is which, and name it."""
    rows = [*truth.images.values(), *predictions.images.values()]
    if rows and all("stamp_ns" in row for row in rows):
        return "stamp_ns", lambda row: row["stamp_ns"]
    names = {row["file_name"] for row in truth.images.values()}
    if all(row["file_name"] in names for row in predictions.images.values()):
        return "file_name", lambda row: row["file_name"]
    # Truth names its images from its own folder, predictions know nothing of that folder.
    return "file_name", lambda row: Path(row["file_name"]).name


def _category_ids(truth: AmodalCoco, predictions: AmodalCoco) -> dict[int, int]:
    """Map the predictions' category ids to the truth's."""
    for data in (truth, predictions):
        names = [row["name"] for row in data.categories.values()]
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if repeated:
            raise DatasetError(f"{data.path}: two categories have the name {repeated[0]!r}")
    true_ids = {row["name"]: category for category, row in truth.categories.items()}
    unknown = [r["name"] for r in predictions.categories.values() if r["name"] not in true_ids]
    if unknown:
        raise DatasetError(
            f"{predictions.path}: predicts the classes {', '.join(unknown)}, which {truth.path} "
            f"does not have; its classes are {', '.join(true_ids)}"
        )
    return {category: true_ids[row["name"]] for category, row in predictions.categories.items()}
