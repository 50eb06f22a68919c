from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.scenes import random_files

from amodal_perception.evaluation import bootstrap, protocols
from amodal_perception.evaluation.alignment import align
from amodal_perception.evaluation.comparison import compare_files
from amodal_perception.evaluation.weighted_metrics import Ratio
from amodal_perception.storage.amodal_coco import AmodalCoco


def repeated(scenes: AmodalCoco, times: list[int]) -> AmodalCoco:
    """Return a file in which image i stands as often as `times` says."""
    images, annotations = {}, {}
    for image_id, count in zip(sorted(scenes.images), times):
        for _ in range(count):
            new_id = len(images) + 1
            images[new_id] = {
                **scenes.images[image_id],
                "id": new_id,
                "file_name": f"copy {new_id}.png",
            }
            for row in scenes.annotations.values():
                if row["image_id"] == image_id:
                    number = len(annotations) + 1
                    annotations[number] = {**row, "id": number, "image_id": new_id}
    return replace(scenes, images=images, annotations=annotations, occlusions=())


def test_weights_count_images_as_often_as_copies_would():
    rng = np.random.default_rng(5)
    truth, predictions = random_files(rng, images=6)
    for row in predictions.annotations.values():
        row["score"] = float(rng.random())  # no ties: copies of one image cannot be told apart
    times = [2, 0, 1, 3, 1, 0]
    names = ["coco", "vrsp", "uoais", "blade", "calibration", "matched", "per_occlusion"]
    metrics, _ = protocols.run_protocols(compare_files(truth, align(truth, predictions)), names)
    copies = [repeated(scenes, times) for scenes in (truth, predictions)]
    expected, _ = protocols.run_protocols(compare_files(copies[0], align(*copies)), names)
    weights = np.array(times, np.float64)
    for name in expected:
        # Between two copies of one prediction there is a precision that weights do not know.
        tolerance = {"abs": 0.05} if ".A" in name or "_A" in name else {}
        value = expected[name](None)
        assert metrics[name](weights) == pytest.approx(value, nan_ok=True, **tolerance), name


def test_weights_of_one_change_nothing():
    truth, predictions = random_files(np.random.default_rng(6), images=6)
    metrics, _ = protocols.run_protocols(compare_files(truth, predictions))
    once = np.ones(6)
    for name, metric in metrics.items():
        assert metric(once) == pytest.approx(metric(None), nan_ok=True), name


def test_intervals_are_those_of_the_binomial_distribution():
    """Half of 400 images are right: two standard errors are 2 * 0.5 / 20."""
    right = np.arange(400) % 2
    bounds = bootstrap.intervals({"a.b.share": Ratio(right, np.ones(400))}, 400, 500)
    low, high = bounds["a.b.share"]
    assert low == pytest.approx(0.45, abs=0.01)
    assert high == pytest.approx(0.55, abs=0.01)
    again = bootstrap.intervals({"a.b.share": Ratio(right, np.ones(400))}, 400, 500)
    assert again == bounds


def test_only_headlines_of_average_precision_have_intervals():
    one = Ratio(np.ones(3), np.ones(3))
    names = (
        "coco.amodal_mask.AP",
        "coco.amodal_mask.APs",
        "per_class.cup.amodal_mask_AP",
        "a.b.F",
    )
    chosen = bootstrap.intervals(dict.fromkeys(names, one), 3, 10)
    assert list(chosen) == ["coco.amodal_mask.AP", "a.b.F"]
