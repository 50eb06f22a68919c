from __future__ import annotations

import numpy as np
import pytest
from helpers.paths import SHARED_DATA
from helpers.scenes import amodal_file, annotation

from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import read_predictions
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.storage import amodal_coco

COCO_EVAL = SHARED_DATA / "coco_eval"
SIZE_HW = (40, 60)


def square(x: int, y: int, side: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE_HW, np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def file_of(rows=(), occlusions=(), *, name="p.json", classes=("object",), images=1):
    return amodal_file(
        *rows, occlusions=occlusions, name=name, classes=classes, images=images, size_hw=SIZE_HW
    )


FRONT, BACK, LONE = square(10, 10), square(15, 10), square(40, 20)


@pytest.fixture
def truth():
    """One square half behind another, and one alone."""
    return file_of(
        [
            annotation(FRONT, FRONT),
            annotation(BACK, BACK & ~FRONT),
            annotation(LONE, LONE),
        ],
        [(1, 2)],
    )


def test_perfect_predictions_are_perfect(truth):
    rows = [{**row, "score": 0.9} for row in truth.annotations.values()]
    metrics = evaluate(truth, file_of(rows, [(1, 2)]))
    measured = {name: value for name, value in metrics.items() if name[:6] != "counts"}
    assert {
        *(
            f"coco.{target}.{name}"
            for target in ("amodal_mask", "visible_mask", "amodal_box", "visible_box")
            for name in ("AP", "AP50", "AP75", "AR10", "AR100", "APs", "ARs")
        ),
        "matched.instances.recall",
        "matched.instances.precision",
        "matched.amodal_mask.mean_IoU",
        "matched.visible_mask.mean_IoU",
        "matched.hidden_mask.mean_IoU",
        "order.end_to_end.precision",
        "order.end_to_end.recall",
        "order.end_to_end.F1",
        "order.matched_pairs.accuracy",
    } <= set(measured)
    at_one = measured.pop("coco.amodal_mask.AR1"), measured.pop("coco.visible_mask.AR1")
    assert at_one == pytest.approx((1 / 3, 1 / 3))
    measured = {name: v for name, v in measured.items() if not name.endswith(".AR1")}
    assert measured == pytest.approx(dict.fromkeys(measured, 1.0))


def test_no_predictions_score_zero(truth):
    metrics = evaluate(truth, file_of([]))
    assert metrics["coco.amodal_mask.AP"] == 0
    assert metrics["coco.visible_mask.AR100"] == 0
    assert metrics["matched.instances.recall"] == 0
    assert metrics["order.end_to_end.F1"] == 0
    assert "order.matched_pairs.accuracy" not in metrics
    assert "matched.amodal_mask.mean_IoU" not in metrics


def test_hidden_iou_is_about_the_hidden_part(truth):
    # The hidden object is found, but only 2 of its 5 hidden columns are guessed.
    guess = BACK.copy()
    guess[:, 15:18] = False
    predictions = file_of(
        [
            annotation(FRONT, FRONT, score=0.9),
            annotation(guess, BACK & ~FRONT, score=0.8),
        ],
        [(1, 2)],
    )
    metrics = evaluate(truth, predictions)
    assert metrics["matched.hidden_mask.mean_IoU"] == pytest.approx(2 / 5)
    assert metrics["matched.visible_mask.mean_IoU"] == 1
    assert metrics["matched.amodal_mask.mean_IoU"] == pytest.approx((1 + 7 / 10) / 2)
    assert metrics["matched.instances.recall"] == pytest.approx(2 / 3)
    assert metrics["matched.instances.precision"] == 1


@pytest.mark.parametrize(
    ("edges", "precision", "recall", "accuracy"),
    [
        ([(1, 2)], 1, 1, 1),
        ([], 0, 0, 0),
        ([(2, 1)], 0, 0, 0),
        ([(1, 2), (2, 1)], 0.5, 1, 0),
        ([(1, 2), (1, 3)], 0.5, 1, 1),
    ],
)
def test_order_of_found_objects(truth, edges, precision, recall, accuracy):
    rows = [{**row, "score": 0.9} for row in truth.annotations.values()]
    metrics = evaluate(truth, file_of(rows, edges))
    assert metrics["order.end_to_end.precision"] == precision
    assert metrics["order.end_to_end.recall"] == recall
    assert metrics["order.matched_pairs.accuracy"] == accuracy
    expected = 2 * precision * recall / (precision + recall) if precision else 0
    assert metrics["order.end_to_end.F1"] == pytest.approx(expected)


def test_missed_and_unsure_objects_cost_edges(truth):
    rows = [
        annotation(FRONT, FRONT, score=0.9),
        annotation(BACK, BACK & ~FRONT, score=0.4),
    ]
    metrics = evaluate(truth, file_of(rows, [(1, 2)]))
    assert metrics["order.end_to_end.recall"] == 0
    assert metrics["order.end_to_end.precision"] == 0
    assert "order.matched_pairs.accuracy" not in metrics


def test_fully_hidden_objects_are_ignored():
    nothing = np.zeros(SIZE_HW, np.bool_)
    inside = square(12, 12, 6)
    truth = file_of(
        [annotation(FRONT, FRONT), annotation(inside, nothing)],
        [(1, 2)],
    )
    found = annotation(FRONT, FRONT, score=0.9)
    metrics = evaluate(truth, file_of([found]))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert metrics["coco.visible_mask.AP"] == pytest.approx(1)
    assert metrics["matched.instances.recall"] == 1
    assert not [name for name in metrics if name.startswith("order.")]
    # A wrong detection is not forgiven for lying inside the ignored object's outline ...
    wrong = annotation(square(13, 13, 3), square(13, 13, 3), score=0.95)
    metrics = evaluate(truth, file_of([found, wrong]))
    assert metrics["coco.amodal_mask.AP50"] == pytest.approx(0.5)
    # ... but finding the ignored object is no false alarm.
    lucky = annotation(inside, square(13, 13, 3), score=0.95)
    metrics = evaluate(truth, file_of([found, lucky]))
    assert metrics["coco.amodal_mask.AP50"] == pytest.approx(1)


def test_truth_without_visible_objects_is_refused():
    nothing = np.zeros(SIZE_HW, np.bool_)
    truth = file_of([annotation(FRONT, nothing)], name="truth.json")
    with pytest.raises(DatasetError, match=r"truth\.json: holds no object"):
        evaluate(truth, file_of([]))


def test_categories_must_agree_to_match():
    classes = ("cup", "box")
    truth = file_of([annotation(FRONT, FRONT)], classes=classes)
    row = annotation(FRONT, FRONT, score=0.9, category=2)
    metrics = evaluate(truth, file_of([row], classes=classes))
    assert metrics["coco.amodal_mask.AP"] == 0
    assert metrics["matched.instances.recall"] == 0
    # Category ids are matched by their names.
    metrics = evaluate(truth, file_of([row], classes=("box", "cup")))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)


@pytest.mark.skipif(not COCO_EVAL.exists(), reason=f"{COCO_EVAL} is not there")
def test_published_coco_scores():
    truth = amodal_coco.read(COCO_EVAL / "instances_val2014_100.json")
    predictions = read_predictions(COCO_EVAL / "instances_val2014_fakesegm100_results.json", truth)
    metrics = evaluate(truth, predictions, ["coco"])
    published = dict(
        zip(
            ("AP", "AP50", "AP75", "APs", "APm", "APl")
            + ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
            (0.320, 0.562, 0.299, 0.387, 0.310, 0.327)
            + (0.268, 0.415, 0.417, 0.469, 0.377, 0.381),
        )
    )
    got = {name: round(metrics[f"coco.amodal_mask.{name}"], 3) for name in published}
    assert got == published
