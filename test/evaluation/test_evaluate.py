from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.paths import SHARED_DATA

from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import read_predictions
from amodal_perception.evaluation.evaluate import evaluate, evaluate_files
from amodal_perception.evaluation.matching import match_greedily
from amodal_perception.storage import amodal_coco, coco_rle

COCO_EVAL = SHARED_DATA / "coco_eval"
SIZE_HW = (40, 60)


def square(x: int, y: int, side: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE_HW, np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def annotation(number, amodal, visible, score=None, image_id=1, category_id=1, **extra):
    row = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": coco_rle.encode_mask(amodal),
        "visible_segmentation": coco_rle.encode_mask(visible),
        "iscrowd": 0,
        **extra,
    }
    if score is not None:
        row["score"] = score
    return row


def scenes(tmp_path, name, annotations, occlusions=(), images=None, classes=("object",)):
    path = tmp_path / f"{name}.json"
    amodal_coco.write(
        path,
        images=images or [amodal_coco.image_record(1, "a.png", SIZE_HW)],
        annotations=annotations,
        categories=amodal_coco.categories_of(classes),
        occlusions=[{"image_id": 1, "occluder_id": i, "occludee_id": j} for i, j in occlusions],
    )
    return path


def read(tmp_path, name, *arguments, **options):
    return amodal_coco.read(scenes(tmp_path, name, *arguments, **options))


FRONT, BACK, LONE = square(10, 10), square(15, 10), square(40, 20)


@pytest.fixture
def truth(tmp_path):
    """One square half behind another, and one alone."""
    return read(
        tmp_path,
        "truth",
        [
            annotation(1, FRONT, FRONT),
            annotation(2, BACK, BACK & ~FRONT),
            annotation(3, LONE, LONE),
        ],
        [(1, 2)],
    )


def test_perfect_predictions_are_perfect(tmp_path, truth):
    rows = [{**row, "score": 0.9} for row in truth.annotations.values()]
    metrics = evaluate(truth, read(tmp_path, "p", rows, [(1, 2)]))
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


def test_no_predictions_score_zero(tmp_path, truth):
    metrics = evaluate(truth, read(tmp_path, "p", []))
    assert metrics["coco.amodal_mask.AP"] == 0
    assert metrics["coco.visible_mask.AR100"] == 0
    assert metrics["matched.instances.recall"] == 0
    assert metrics["order.end_to_end.F1"] == 0
    assert "order.matched_pairs.accuracy" not in metrics
    assert "matched.amodal_mask.mean_IoU" not in metrics


def test_hidden_iou_is_about_the_hidden_part(tmp_path, truth):
    # The hidden object is found, but only 2 of its 5 hidden columns are guessed.
    guess = BACK.copy()
    guess[:, 15:18] = False
    predictions = read(
        tmp_path,
        "p",
        [
            annotation(1, FRONT, FRONT, 0.9),
            annotation(2, guess, BACK & ~FRONT, 0.8),
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
def test_order_of_found_objects(tmp_path, truth, edges, precision, recall, accuracy):
    rows = [{**row, "score": 0.9} for row in truth.annotations.values()]
    metrics = evaluate(truth, read(tmp_path, "p", rows, edges))
    assert metrics["order.end_to_end.precision"] == precision
    assert metrics["order.end_to_end.recall"] == recall
    assert metrics["order.matched_pairs.accuracy"] == accuracy
    expected = 2 * precision * recall / (precision + recall) if precision else 0
    assert metrics["order.end_to_end.F1"] == pytest.approx(expected)


def test_missed_and_unsure_objects_cost_edges(tmp_path, truth):
    rows = [
        annotation(1, FRONT, FRONT, 0.9),
        annotation(2, BACK, BACK & ~FRONT, 0.4),
    ]
    metrics = evaluate(truth, read(tmp_path, "p", rows, [(1, 2)]))
    assert metrics["order.end_to_end.recall"] == 0
    assert metrics["order.end_to_end.precision"] == 0
    assert "order.matched_pairs.accuracy" not in metrics


def test_fully_hidden_objects_are_ignored(tmp_path):
    nothing = np.zeros(SIZE_HW, np.bool_)
    inside = square(12, 12, 6)
    truth = read(
        tmp_path,
        "truth",
        [annotation(1, FRONT, FRONT), annotation(2, inside, nothing)],
        [(1, 2)],
    )
    found = annotation(1, FRONT, FRONT, 0.9)
    metrics = evaluate(truth, read(tmp_path, "p", [found]))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert metrics["coco.visible_mask.AP"] == pytest.approx(1)
    assert metrics["matched.instances.recall"] == 1
    assert not [name for name in metrics if name.startswith("order.")]
    # A wrong detection is not forgiven for lying inside the ignored object's outline ...
    wrong = annotation(2, square(13, 13, 3), square(13, 13, 3), 0.95)
    metrics = evaluate(truth, read(tmp_path, "p", [found, wrong]))
    assert metrics["coco.amodal_mask.AP50"] == pytest.approx(0.5)
    # ... but finding the ignored object is no false alarm.
    lucky = annotation(2, inside, square(13, 13, 3), 0.95)
    metrics = evaluate(truth, read(tmp_path, "p", [found, lucky]))
    assert metrics["coco.amodal_mask.AP50"] == pytest.approx(1)


def test_truth_without_visible_objects_is_refused(tmp_path):
    nothing = np.zeros(SIZE_HW, np.bool_)
    truth = read(tmp_path, "truth", [annotation(1, FRONT, nothing)])
    with pytest.raises(DatasetError, match=r"truth\.json: holds no object"):
        evaluate(truth, read(tmp_path, "p", []))


def test_categories_must_agree_to_match(tmp_path):
    classes = ("cup", "box")
    truth = read(tmp_path, "truth", [annotation(1, FRONT, FRONT)], classes=classes)
    row = annotation(1, FRONT, FRONT, 0.9, category_id=2)
    metrics = evaluate(truth, read(tmp_path, "p", [row], classes=classes))
    assert metrics["coco.amodal_mask.AP"] == 0
    assert metrics["matched.instances.recall"] == 0
    # Category ids are matched by their names.
    metrics = evaluate(truth, read(tmp_path, "q", [row], classes=("box", "cup")))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)


def test_foreign_classes_are_refused(tmp_path, truth):
    predictions = read(tmp_path, "p", [], classes=("cat",))
    with pytest.raises(DatasetError, match=r"predicts the classes cat, .* its classes are object"):
        evaluate(truth, predictions)


def test_images_are_matched_by_name_or_stamp(tmp_path):
    def images(ids, **extra):
        return [
            amodal_coco.image_record(i, f"{i}.png", SIZE_HW, **{k: f(i) for k, f in extra.items()})
            for i in ids
        ]

    rows = [annotation(1, FRONT, FRONT, image_id=1), annotation(2, LONE, LONE, image_id=2)]
    stamp = {"stamp_ns": lambda i: 100 * i}
    truth = read(tmp_path, "truth", rows, images=images([1, 2], **stamp))

    moved = [annotation(1, FRONT, FRONT, 0.9, 7), annotation(2, LONE, LONE, 0.9, 8)]
    by_stamp = images([7, 8], stamp_ns=lambda i: 100 * (i - 6))
    assert evaluate(truth, read(tmp_path, "p", moved, images=by_stamp))[
        "coco.amodal_mask.AP"
    ] == pytest.approx(1)

    by_name = [{**row, "id": row["id"] + 6} for row in images([1, 2])]
    assert evaluate(truth, read(tmp_path, "q", moved, images=by_name))[
        "coco.amodal_mask.AP"
    ] == pytest.approx(1)

    in_folder = [{**row, "file_name": f"images/{row['file_name']}"} for row in images([1, 2])]
    assert evaluate(
        read(tmp_path, "truth", rows, images=in_folder), read(tmp_path, "r", moved, images=by_name)
    )["coco.amodal_mask.AP"] == pytest.approx(1)

    with pytest.raises(DatasetError, match=r"p\.json: image '7.png' \(file_name\) is not in"):
        evaluate(truth, read(tmp_path, "p", moved, images=images([7, 8])))


def test_other_image_size_is_refused(tmp_path, truth):
    images = [amodal_coco.image_record(1, "a.png", (80, 60))]
    predictions = read(tmp_path, "p", [], images=images)
    with pytest.raises(DatasetError, match=r"is 80 x 60 .* but 40 x 60 in"):
        evaluate(truth, predictions)


def test_damaged_mask_is_named(tmp_path, truth):
    row = annotation(5, FRONT, FRONT, 0.9)
    row["segmentation"] = {"size": [7, 7], "counts": [49]}
    with pytest.raises(DatasetError, match=r"p\.json: annotation 5, 'segmentation'"):
        evaluate(truth, read(tmp_path, "p", [row]))


def damaged(tmp_path, **changes):
    path = scenes(tmp_path, "p", [annotation(7, FRONT, FRONT, 0.9)])
    content = json.loads(path.read_text())
    content["annotations"][0].update(changes)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("score", [None, "0.9", float("nan")])
def test_predictions_need_scores(tmp_path, truth, score):
    path = damaged(tmp_path, score=score)
    with pytest.raises(DatasetError, match=r"p\.json: annotation 7 needs a finite 'score'"):
        evaluate(truth, read_predictions(path, truth))


@pytest.mark.parametrize("bbox", [[1, 2, 3], "box", [1, 2, 3, float("nan")], ["a", 1, 2, 3]])
def test_damaged_box_is_named(tmp_path, truth, bbox):
    with pytest.raises(DatasetError, match=r"p\.json: annotation 7, 'bbox' is"):
        read_predictions(damaged(tmp_path, bbox=bbox), truth)


def test_evaluate_files_writes_metrics(tmp_path, truth, capsys):
    rows = [{**row, "score": 0.9} for row in truth.annotations.values()]
    metrics = evaluate_files(truth.path, scenes(tmp_path, "p", rows), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert "coco.amodal_mask.AP50" in capsys.readouterr().out


def test_evaluate_files_refuses_no_predictions(tmp_path, truth):
    with pytest.raises(DatasetError, match=r"p\.json: holds no predictions"):
        evaluate_files(truth.path, scenes(tmp_path, "p", []), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plain_list_of_results(tmp_path, truth):
    rows = [
        {key: row[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.9}
        for row in truth.annotations.values()
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    metrics = evaluate(truth, read_predictions(path, truth))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert "coco.visible_mask.AP" not in metrics

    del rows[1]["score"]
    path.write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=r"results\.json: result 2 has no 'score'"):
        read_predictions(path, truth)


def test_greedy_matching_takes_the_best_free_column():
    iou = np.array([[0.6, 0.7, 0.0], [0.55, 0.9, 0.0], [0.8, 0.0, 0.4]])
    assert match_greedily(iou).tolist() == [1, 0, -1]
    assert match_greedily(np.zeros((2, 0))).tolist() == [-1, -1]


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
