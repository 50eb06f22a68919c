"""COCO's figures to the last digit, against pycocotools itself."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np
from helpers.scenes import amodal_file, annotation, mask, random_files
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as COCO_MASK
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amodal_perception.evaluation.alignment import align
from amodal_perception.evaluation.comparison import TARGETS
from amodal_perception.evaluation.evaluate import evaluate, evaluate_aligned
from amodal_perception.storage.amodal_coco import AmodalCoco

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def pycocotools_figures(truth: AmodalCoco, predictions: AmodalCoco, target: str, **params):
    """Run the real thing on one target; returns its twelve figures."""
    is_box, is_visible = target.endswith("box"), target.startswith("visible")

    def rows(scenes):
        for row in copy.deepcopy(list(scenes.annotations.values())):
            if is_visible:
                row["segmentation"] = row["visible_segmentation"]
            box = COCO_MASK.toBbox(row["segmentation"]).tolist()
            yield {**row, "bbox": box}

    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = {
            "images": list(truth.images.values()),
            "categories": list(truth.categories.values()),
            "annotations": [
                {**row, "area": float(COCO_MASK.area(row["segmentation"]))} for row in rows(truth)
            ],
        }
        api.createIndex()
        results = list(rows(predictions))
        if not is_box:
            results = [{k: v for k, v in row.items() if k != "bbox"} for row in results]
        found = api.loadRes(results)
        evaluation = COCOeval(api, found, "bbox" if is_box else "segm")
        for name, value in params.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats.tolist()))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_figure_is_that_of_pycocotools(seed):
    truth, predictions = random_files(np.random.default_rng(seed))
    if not predictions.annotations or all(r["iscrowd"] for r in truth.annotations.values()):
        return
    got = evaluate(truth, predictions, ["coco"])
    for target in TARGETS:
        expected = pycocotools_figures(truth, predictions, target)
        for name, value in expected.items():  # -1: nothing to measure, which we leave out
            assert got.get(f"coco.{target}.{name}", -1.0) == value, (target, name)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_without_classes_figures_are_those_of_pycocotools(seed):
    truth, predictions = random_files(np.random.default_rng(seed))
    if not predictions.annotations or all(r["iscrowd"] for r in truth.annotations.values()):
        return
    got = evaluate(truth, predictions, ["orcnn"])
    for target, name in (("amodal_mask", "AP_A"), ("visible_mask", "AP_V")):
        expected = pycocotools_figures(truth, predictions, target, useCats=0)["AP"]
        assert got[f"orcnn.all_class_agnostic.{name}"] == expected


def test_many_predictions_of_one_image_are_cut_as_in_coco():
    square = np.zeros((20, 20), np.bool_)
    square[5:15, 5:15] = True
    elsewhere = np.roll(square, 5, axis=0)
    rows = [annotation(elsewhere, score=0.9 - i / 1000) for i in range(99)]
    truth = amodal_file(annotation(square))
    for extra in (0, 1):  # the hundredth still counts, the one after it does not
        late = [*rows, *[annotation(elsewhere, score=0.6)] * extra, annotation(square, score=0.5)]
        predictions = amodal_file(*late, name="predictions.json")
        got = evaluate(truth, predictions, ["coco"])
        expected = pycocotools_figures(truth, predictions, "amodal_mask")
        assert [got[f"coco.amodal_mask.{n}"] for n in ("AP", "AR100")] == [
            expected["AP"],
            expected["AR100"],
        ]
        assert got["coco.amodal_mask.AR100"] == 1 - extra


def test_fully_hidden_objects_can_be_counted_as_coco_does():
    front = mask("....", ".aa.", ".aa.", "....")
    truth = amodal_file(annotation(front), annotation(front, np.zeros_like(front)))
    predictions = amodal_file(annotation(front, score=0.9))
    plain = evaluate(truth, predictions, ["coco"])
    assert plain["coco.amodal_mask.AR100"] == 1
    assert plain["counts.truth.ignored_fully_hidden"] == 1
    aligned = align(truth, predictions)
    counted = evaluate_aligned(truth, aligned, ["coco"], count_fully_hidden=True).metrics
    expected = pycocotools_figures(truth, predictions, "amodal_mask")
    assert counted["coco.amodal_mask.AR100"] == expected["AR100"] == 0.5
    assert counted["coco.amodal_mask.AP"] == expected["AP"]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_both_masks_must_fit(seed):
    """ORCNN's AP_AV is pycocotools' figure for the smaller of the two IoUs."""
    truth, predictions = random_files(np.random.default_rng(seed), crowds=False)
    if not predictions.annotations or not truth.annotations:
        return

    class SmallerIou(COCOeval):
        def computeIoU(self, image_id, category_id):  # noqa: N802 (overrides)
            amodal = super().computeIoU(image_id, category_id)
            kept = [
                (row, row["segmentation"])
                for rows in (self._gts, self._dts)
                for row in rows[image_id, category_id]
            ]
            for row, _ in kept:
                row["segmentation"] = row["visible_segmentation"]
            visible = super().computeIoU(image_id, category_id)
            for row, segmentation in kept:
                row["segmentation"] = segmentation
            return np.minimum(amodal, visible) if len(amodal) else amodal

    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = {
            "images": list(truth.images.values()),
            "categories": list(truth.categories.values()),
            "annotations": [{**row, "area": 1} for row in truth.annotations.values()],
        }
        api.createIndex()
        found = api.loadRes(copy.deepcopy(list(predictions.annotations.values())))
        evaluation = SmallerIou(api, found, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluate(truth, predictions, ["orcnn"])["orcnn.all.AP_AV"] == evaluation.stats[0]
