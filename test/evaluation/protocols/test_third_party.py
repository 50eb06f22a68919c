"""Figures against those that the published evaluators print for the same files.

``third_party/truth.json`` and ``predictions.json`` are drawn ellipses with all kinds of mistakes,
``order.json`` occlusions and depth orders predicted on the true masks. ``expected.json`` holds
what the public code of VRSP (ff12329, and AISFormer 8667df5, which printed the same), amodalAPI
(694095b), UOAIS (25eab86), Bayesian-Amodal (0751b04), PCNet (deocclusion ac543f9) and InstaOrder
(dd88ece) printed for them. amodalAPI and Bayesian-Amodal stop at images without predictions, so
theirs are of the others. InstaOrder adds 1e-6 to the number of images when it averages WHDR.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from amodal_perception.evaluation.alignment import only_images
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.storage import amodal_coco

FOLDER = Path(__file__).parent / "third_party"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def figures(part):
    truth = amodal_coco.read(FOLDER / "truth.json")
    predictions = amodal_coco.read(FOLDER / "predictions.json")
    if part == "images_with_predictions":
        seen = {row["image_id"] for row in predictions.annotations.values()}
        truth, predictions = only_images(truth, seen), only_images(predictions, seen)
    if part == "true_masks":
        said = json.loads((FOLDER / "order.json").read_text())
        predictions = replace(
            truth,
            annotations={i: {**row, "score": 0.9} for i, row in truth.annotations.items()},
            occlusions=tuple(said["occlusions"]),
            depth_orders=tuple(said["depth_orders"]),
        ).check()
    return evaluate(truth, predictions, None)


@pytest.mark.parametrize("part", EXPECTED)
def test_figures_are_those_of_the_published_evaluators(part):
    got, expected = figures(part), EXPECTED[part]
    exact = {name: value for name, value in expected.items() if ".WHDR_" not in name}
    assert {name: got[name] for name in exact} == pytest.approx(exact, abs=1e-12)
    rates = {name: value for name, value in expected.items() if ".WHDR_" in name}
    assert {name: got[name] for name in rates} == pytest.approx(rates, rel=1e-6)
