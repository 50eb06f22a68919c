"""Images and classes of predictions are found in truth by name; what does not fit is refused."""

from __future__ import annotations

import json

import pytest
from helpers.protocol_drawings import FRONT, LONE, predictions, truth
from helpers.scenes import amodal_file, annotation, write_file

from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import read_predictions
from amodal_perception.evaluation.evaluate import evaluate
from amodal_perception.storage import amodal_coco

SIZE_HW = (6, 6)


def test_foreign_classes_are_refused():
    found = predictions(classes=("cat",))
    with pytest.raises(DatasetError, match=r"predicts the classes cat, .* classes are cup, box"):
        evaluate(truth(), found)


def test_two_classes_of_one_name_are_refused():
    found = predictions(classes=("cup", "cup"))
    with pytest.raises(DatasetError, match=r"two categories have the name 'cup'"):
        evaluate(truth(), found)


def images(ids, **extra):
    return [
        amodal_coco.image_record(i, f"{i}.png", SIZE_HW, **{k: f(i) for k, f in extra.items()})
        for i in ids
    ]


def test_images_are_matched_by_name_or_stamp():
    rows = [annotation(FRONT, image=1), annotation(LONE, image=2)]
    true = amodal_file(*rows, images=images([1, 2], stamp_ns=lambda i: 100 * i))

    moved = [annotation(FRONT, score=0.9, image=7), annotation(LONE, score=0.9, image=8)]
    by_stamp = predictions(*moved, images=images([7, 8], stamp_ns=lambda i: 100 * (i - 6)))
    by_name = predictions(*moved, images=[{**row, "id": row["id"] + 6} for row in images([1, 2])])
    in_folder = amodal_file(
        *rows,
        images=[{**row, "file_name": f"images/{row['file_name']}"} for row in images([1, 2])],
    )
    for one, other in ((true, by_stamp), (true, by_name), (in_folder, by_name)):
        assert evaluate(one, other)["coco.amodal_mask.AP"] == pytest.approx(1)

    unknown = predictions(*moved, images=images([7, 8]))
    with pytest.raises(DatasetError, match=r"s\.json: image '7.png' \(file_name\) is not in"):
        evaluate(true, unknown)


def test_other_image_size_is_refused():
    found = predictions(images=[amodal_coco.image_record(1, "1.png", (80, 60))])
    with pytest.raises(DatasetError, match=r"is 80 x 60 .* but 6 x 6 in"):
        evaluate(truth(), found)


def damaged(tmp_path, **changes):
    path = write_file(tmp_path / "p.json", predictions(annotation(FRONT, score=0.9, id=7)))
    content = json.loads(path.read_text())
    content["annotations"][0].update(changes)
    path.write_text(json.dumps(content))
    return path


def test_damaged_mask_is_named(tmp_path):
    path = damaged(tmp_path, segmentation={"size": [7, 7], "counts": [49]})
    with pytest.raises(DatasetError, match=r"p\.json: annotation 7, 'segmentation'"):
        read_predictions(path, truth())


@pytest.mark.parametrize("score", [None, "0.9", float("nan")])
def test_predictions_need_scores(tmp_path, score):
    path = damaged(tmp_path, score=score)
    with pytest.raises(DatasetError, match=r"p\.json: annotation 7 needs a finite 'score'"):
        evaluate(truth(), read_predictions(path, truth()))


@pytest.mark.parametrize("bbox", [[1, 2, 3], "box", [1, 2, 3, float("nan")], ["a", 1, 2, 3]])
def test_damaged_box_is_named(tmp_path, bbox):
    with pytest.raises(DatasetError, match=r"p\.json: annotation 7, 'bbox' is"):
        read_predictions(damaged(tmp_path, bbox=bbox), truth())


def test_plain_list_of_results(tmp_path):
    true = truth()
    rows = [
        {key: row[key] for key in ("image_id", "category_id", "segmentation")} | {"score": 0.9}
        for row in true.annotations.values()
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    metrics = evaluate(true, read_predictions(path, true))
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert "coco.visible_mask.AP" not in metrics

    del rows[1]["score"]
    path.write_text(json.dumps(rows))
    with pytest.raises(DatasetError, match=r"results\.json: result 2 has no 'score'"):
        read_predictions(path, true)
