"""Predictions that are written image by image."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from helpers.scenes import mask, scene_of, stacked

from amodal_perception.ordering import OrderingConfig
from amodal_perception.raw_masks import PastedDetections
from amodal_perception.runtime import ModelMetadata
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.coco_rle import decode_mask
from amodal_perception.storage.predictions_file import (
    RAW,
    PredictionsFile,
    predictions_info,
)
from amodal_perception.structures import Instances

PILE = stacked(mask("##..", "##.."), mask(".##.", ".##."))


@pytest.mark.parametrize("piles", [[], [PILE], [PILE, Instances.empty((2, 4)), PILE]])
def test_predictions_grow_to_the_file_that_is_written_at_once(tmp_path, piles):
    scenes = [
        scene_of(pile, OrderingConfig(1, 0.0), stamp_ns=5 + i) for i, pile in enumerate(piles)
    ]
    content = {
        "images": [],
        "annotations": [],
        "categories": amodal_coco.categories_of(("object",)),
        "occlusions": [],
        "info": {"model_id": "m"},
    }
    with PredictionsFile() as growing:
        for number, scene in enumerate(scenes, 1):
            growing.add(scene, f"{number}.png")
            content["images"].append(
                amodal_coco.image_record(number, f"{number}.png", (2, 4), stamp_ns=scene.stamp_ns)
            )
            rows, edges = amodal_coco.scene_to_annotations(
                scene, image_id=number, first_id=len(content["annotations"]) + 1
            )
            content["annotations"] += rows
            content["occlusions"] += edges
        growing.write(tmp_path / "grown.json", content["categories"], content["info"])
    amodal_coco.write(tmp_path / "at_once.json", **content)
    assert (tmp_path / "grown.json").read_bytes() == (tmp_path / "at_once.json").read_bytes()
    assert len(amodal_coco.read(tmp_path / "grown.json").images) == len(piles)


def test_raw_detections_keep_all_their_masks_and_digits(tmp_path):
    amodal, visible, occluded = mask("###", "###"), mask("##.", "..#"), mask("..#", ".#.")
    found = PastedDetections(
        boxes_xyxy=np.array([[1.25, 0, 3.5, 2]], np.float32),
        scores=np.array([1.2345678e-5], np.float32),
        labels=np.array([1], np.int32),
        size_hw=(3, 5),
        windows_xyxy=np.array([[1, 0, 4, 2]], np.int32),
        masks={"amodal": (amodal,), "visible": (visible,), "occluded": (occluded,)},
    )
    metadata = ModelMetadata("orcnn", "0" * 64, ("a", "b"), (3, 5), 1, 28)
    with PredictionsFile() as growing:
        for name in ("1.png", "2.png"):
            growing.add_raw(found, name)
        growing.write(
            tmp_path / "raw.json",
            categories=amodal_coco.categories_of(("a", "b")),
            info=predictions_info(RAW, metadata),
        )
    read = amodal_coco.read(tmp_path / "raw.json")
    assert read.info["predictions"] == "raw"
    assert [row["file_name"] for row in read.images.values()] == ["1.png", "2.png"]
    row = read.annotations[2]
    assert np.float32(row["score"]) == found.scores[0]
    assert (row["image_id"], row["category_id"], row["area"]) == (2, 2, 6)
    assert row["occlusion_rate"] == 0.5
    assert row["visible_bbox"] == [1, 0, 3, 2]
    for key, crop in (
        ("segmentation", amodal),
        ("visible_segmentation", visible),
        ("occluded_segmentation", occluded),
    ):
        whole = np.zeros((3, 5), bool)
        whole[:2, 1:4] = crop
        assert np.array_equal(decode_mask(row[key]), whole)


def test_memory_does_not_grow_with_the_number_of_images():
    rng = np.random.default_rng(0)
    crops = tuple(rng.random((100, 12, 12)) > 0.5)
    found = PastedDetections(
        boxes_xyxy=np.tile(np.float32([2, 3, 14, 15]), (100, 1)),
        scores=np.linspace(1, 0.1, 100, dtype=np.float32),
        labels=np.zeros(100, np.int32),
        size_hw=(40, 50),
        windows_xyxy=np.tile(np.int32([2, 3, 14, 15]), (100, 1)),
        masks={"amodal": crops, "visible": crops},
    )
    with PredictionsFile() as growing:
        growing.add_raw(found, "0.png")
        tracemalloc.start()
        for number in range(60):  # 6,000 rows; a list of them would take 8 MB
            growing.add_raw(found, f"{number}.png")
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert after < 500_000
