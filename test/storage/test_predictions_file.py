"""Predictions that are written scene by scene."""

from __future__ import annotations

import pytest
from helpers.scenes import mask, scene_of, stacked

from amodal_perception.ordering import OrderingConfig
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.predictions_file import PredictionsFile
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
