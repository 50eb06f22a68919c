"""Everything that reads masks from JSON, each a function of a folder with a file to read.

A function returns the line that its command prints of an error, or raises an `AmodalError`.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodal_perception import cli
from amodal_perception.replay.replay import read_stamped_truth
from amodal_perception.storage.coco_rle import encode_mask
from helpers import layouts
from training.convert.__main__ import main as convert
from training.datasets.amodal_boxes import AmodalBoxesDataset
from training.datasets.amodal_coco import AmodalCocoDataset

NAME = "annotations.json"
"""The file that a reader reads."""
SIZE_HW = (12, 16)


def amodal_content() -> dict[str, Any]:
    """Return truth, or predictions, with masks in every form, and all keys that are read."""
    front, back = np.zeros((2, *SIZE_HW), np.bool_)
    front[2:8, 3:9] = back[4:10, 5:14] = True
    runs = [2 * 12 + 3, 4, 12 - 4, 4, 12 * 16 - 2 * 12 - 3 - 16]
    masks = [
        (encode_mask(front), encode_mask(front)),
        (encode_mask(back), encode_mask(back & ~front)),
        ([[2.5, 1, 9, 1, 9, 8], [10, 2, 14, 2, 14, 9, 10, 9]], [[2.5, 1, 9, 1, 9, 8]]),
        ({"size": [12, 16], "counts": runs}, {"size": [12, 16], "counts": runs}),
    ]
    return {
        "info": {"description": "drawn", "amodal_truth": True},
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 12, "width": 16, "stamp_ns": i}
            for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "box"}],
        "annotations": [
            {
                "id": i,
                "image_id": 1 + i // 3,
                "category_id": 1 + i % 2,
                "segmentation": amodal,
                "visible_segmentation": visible,
                "bbox": [3, 2, 6, 6],
                "visible_bbox": [3.0, 2.0, 6.0, 6.0],
                "area": 36,
                "occlusion_rate": 0.25,
                "iscrowd": 0,
                "score": 0.75,
                "name": "cup",
                "isstuff": 0,
            }
            for i, (amodal, visible) in enumerate(masks, 1)
        ],
        "occlusions": [{"image_id": 1, "occluder_id": 1, "occludee_id": 2, "confidence": 0.5}],
        "depth_orders": [
            {"closer_id": 3, "farther_id": 4, "equal": False, "overlap": True, "count": 3}
        ],
    }


def results_content() -> list[dict[str, Any]]:
    """Return the same predictions as a plain COCO list."""
    keys = ("image_id", "category_id", "segmentation", "score", "bbox")
    return [{key: row[key] for key in keys} for row in amodal_content()["annotations"]]


def labels_content() -> dict[str, Any]:
    """Return labels of two layers that names of categories tell apart."""
    content = amodal_content()
    content["categories"] = [{"id": 1, "name": "cup visible"}, {"id": 2, "name": "cup amodal"}]
    for row in content["annotations"]:
        row["attributes"] = {"layer": "", "object": str(row["id"] // 2)}
    return content


def _write_good(folder: Path) -> Path:
    path = folder / "good.json"
    path.write_text(json.dumps(amodal_content()))
    return path


def run_command(main: Callable[[list[str]], int], folder: Path, *arguments: object) -> str:
    """Run a command; return what it prints of an error, and check that it writes nothing then."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = main([*map(str, arguments), "--out", str(out / "made.json")])
    told = [line for line in errors.getvalue().splitlines() if "drawn on grey" not in line]
    assert code == (1 if told else 0), (code, errors.getvalue())
    assert not (code and out.exists()), "something was written"
    return "\n".join(told)


def _evaluate(folder: Path, *, truth: bool) -> str:
    paths = [folder / NAME, _write_good(folder)]
    paths = paths if truth else paths[::-1]
    flags = ("--truth", paths[0], "--predictions", paths[1], "--bootstrap", 0)
    return run_command(cli.main, folder, "evaluate", *flags)


def _inspect(folder: Path) -> str:
    told = run_command(cli.main, folder, "inspect", folder / NAME)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert cli.main(["inspect", str(folder / NAME)]) == bool(errors.getvalue())
    assert bool(told) or not errors.getvalue()
    return told


def _replay(folder: Path) -> None:
    truth = read_stamped_truth(folder / NAME)
    for image_id in truth.images:
        assert len(truth.instances_of(image_id)) == len(truth.annotations_of(image_id))
        truth.occlusions_of(image_id)


def _train(folder: Path) -> None:
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((*SIZE_HW, 3), np.uint8))
    for kind in (AmodalCocoDataset, AmodalBoxesDataset):
        dataset = kind(folder, (32, 32), 1)
        for index in range(len(dataset)):
            dataset[index]


def _convert(folder: Path, *, name: str) -> str:
    return run_command(convert, folder, name, folder / NAME)


def _merge(folder: Path, *, instances: bool) -> str:
    good = folder / "good.json"
    good.write_text(json.dumps(layouts.cocoa() if instances else layouts.coco()))
    source, other = (good, folder / NAME) if instances else (folder / NAME, good)
    return run_command(convert, folder, "cocoa-cls-merge", source, "--instances", other)


def _boxes() -> dict[str, Any]:
    content = amodal_content()
    for row in content["annotations"]:
        del row["segmentation"], row["visible_segmentation"]
    return content


READERS: dict[str, tuple[Callable[[Path], str | None], Callable[[], Any]]] = {
    "evaluate truth": (partial(_evaluate, truth=True), amodal_content),
    "evaluate predictions": (partial(_evaluate, truth=False), amodal_content),
    "evaluate results": (partial(_evaluate, truth=False), results_content),
    "inspect": (_inspect, amodal_content),
    "replay": (_replay, amodal_content),
    "train": (_train, amodal_content),
    "convert cocoa": (partial(_convert, name="cocoa"), layouts.cocoa),
    "convert cocoa-flat": (partial(_convert, name="cocoa-flat"), layouts.cocoa_flat),
    "convert d2sa": (partial(_convert, name="d2sa"), layouts.d2sa),
    "convert kins-2019": (partial(_convert, name="kins-2019"), layouts.kins_2019),
    "convert kins-2020": (partial(_convert, name="kins-2020"), layouts.kins_2020),
    "convert coco": (partial(_convert, name="coco"), layouts.coco),
    "convert uoais-sim": (partial(_convert, name="uoais-sim"), layouts.d2sa),
    "convert two-masks": (partial(_convert, name="two-masks"), labels_content),
    "convert two-boxes": (partial(_convert, name="two-boxes"), _boxes),
    "convert two-boxes in layers": (partial(_convert, name="two-boxes"), labels_content),
    "convert cocoa-cls-merge": (partial(_merge, instances=False), layouts.cocoa),
    "convert cocoa-cls-merge instances": (partial(_merge, instances=True), layouts.coco),
}
"""By name: what reads a folder's `NAME`, and what makes content that it understands."""
