from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.scenes import write_scenes

from amodal_perception.masks import mask_windows
from training.datasets.amodal_boxes import AmodalBoxesDataset, filled_boxes
from training.datasets.amodal_coco import AmodalCocoDataset
from training.loop.config import from_mapping, load
from training.loop.sample_stream import batches
from training.structures import Batch

RECIPES = ROOT / "config/train"


SIZE_HW = (64, 96)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blade") / "drawn"
    write_scenes(folder, count=3, size_hw=SIZE_HW, objects=5)
    return folder


def test_dataset_hands_out_boxes_and_no_masks(drawn):
    masks, boxes = (d(drawn, SIZE_HW) for d in (AmodalCocoDataset, AmodalBoxesDataset))
    assert (len(boxes), boxes.class_names) == (3, ("object",))
    for i in range(3):
        a, b = masks[i], boxes[i]
        for name in ("amodal", "visible"):
            windows = mask_windows(getattr(b, name))
            assert np.array_equal(windows, mask_windows(getattr(a, name)))
            areas = getattr(b, name).sum((1, 2))
            assert np.array_equal(areas, np.diff(windows.reshape(-1, 2, 2), axis=1).prod((1, 2)))
        assert np.array_equal(a.image, b.image)
        assert b.whole is None  # nothing can be cut out and pasted


def test_batches_of_the_recipe_hold_rectangles_after_all_random_changes(drawn):
    config = load(RECIPES / "blade_light.yaml", [f"data={drawn}", "workers=0", "iterations=3"])
    config = from_mapping({**vars(config), "model": "blade_light", "batch_size": 3}, source="test")
    for batch in batches(AmodalBoxesDataset(drawn, SIZE_HW), config, 0):
        batch = Batch(*batch)
        for masks in (batch.amodal, batch.visible):
            flat = masks.flatten(0, 1).numpy() > 0
            np.testing.assert_array_equal(flat, filled_boxes(flat))
