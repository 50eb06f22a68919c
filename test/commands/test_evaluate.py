"""`amodal evaluate` from files to figures, and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from helpers.scenes import random_files, write_file

from amodal_perception.cli import main
from amodal_perception.evaluation.protocols import PROTOCOLS
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import write_image


@pytest.fixture
def files(tmp_path):
    """Truth and predictions on disk, with a photograph for one of four images."""
    truth, predictions = random_files(np.random.default_rng(3))
    write_image(tmp_path / "1.png", np.full((30, 40, 3), 200, np.uint8))
    return (
        write_file(tmp_path / "truth.json", truth),
        write_file(tmp_path / "predictions.json", predictions),
        tmp_path / "out",
    )


def evaluate(files, *options):
    truth, predictions, out = map(str, files)
    command = ["evaluate", "--truth", truth, "--predictions", predictions, "--out", out]
    return main([*command, *options])


def test_everything_that_the_truth_allows(files, capsys):
    assert evaluate(files, "--bootstrap", "20") == 0
    out = files[2]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics.pop("predictions") == "unstated"
    measured = {name.split(".")[0] for name in metrics} - {"counts"}
    # No occlusions in this truth: what asks for them is left out, and said to be.
    assert measured == set(PROTOCOLS) - {"order", "pcnet", "instaorder"}
    printed = capsys.readouterr().out
    assert "left out: order, pcnet, instaorder, because" in printed
    assert all(len(name.split(".")) == 3 for name in metrics)
    assert all(0 <= v <= 1 for name, v in metrics.items() if not name.startswith("counts"))
    intervals = json.loads((out / "intervals.json").read_text())
    assert set(intervals) <= set(metrics)
    low, high = intervals["coco.amodal_mask.AP"]
    assert low <= metrics["coco.amodal_mask.AP"] <= high


def test_same_files_same_bytes(files):
    results = []
    for _ in range(2):
        assert evaluate(files, "--bootstrap", "5") == 0
        results.append([(files[2] / n).read_bytes() for n in ("metrics.json", "intervals.json")])
    assert results[0] == results[1]


def test_chosen_protocols_only(files):
    assert evaluate(files, "--protocol", "coco", "uoais", "--bootstrap", "0") == 0
    metrics = json.loads((files[2] / "metrics.json").read_text())
    assert {name.split(".")[0] for name in metrics} == {"predictions", "coco", "uoais", "counts"}
    assert json.loads((files[2] / "intervals.json").read_text()) == {}


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("cocoo", r"unknown protocol cocoo; there are coco, orcnn, .*uoais"),
        ("pcnet", r"protocol 'pcnet' cannot measure: .*truth\.json has no 'occlusions'"),
    ],
)
def test_impossible_protocols_are_refused(files, capsys, protocol, message):
    assert evaluate(files, "--protocol", protocol) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not files[2].exists()


def test_truth_is_given_as_file_or_as_folder(files, tmp_path):
    files[0].rename(tmp_path / "annotations.json")
    given_folder = (tmp_path, files[1], files[2])
    assert evaluate(given_folder, "--bootstrap", "0") == 0
    as_folder = (files[2] / "metrics.json").read_bytes()
    assert evaluate((tmp_path / "annotations.json", *files[1:]), "--bootstrap", "0") == 0
    assert (files[2] / "metrics.json").read_bytes() == as_folder


def test_what_has_no_partner_is_counted_aloud(files, capsys):
    """Predictions of another data set have figures too, all of them near 0."""
    content = json.loads(files[1].read_text())
    kept = [row for row in content["annotations"] if row["image_id"] == 1]
    files[1].write_text(json.dumps({**content, "annotations": kept, "occlusions": []}))
    assert evaluate(files, "--bootstrap", "0") == 0
    (line,) = re.findall(r"without a partner: .*", capsys.readouterr().out)
    assert "3 of 4 images have no prediction" in line
    assert f"of {len(kept)} predictions no object" in line


def test_missing_photographs_are_told(files, capsys, caplog, tmp_path):
    assert evaluate(files, "--bootstrap", "0") == 0
    assert "3 photographs of the report are not there" in caplog.text
    assert "name their folder by --images" in caplog.text
    assert evaluate(files, "--images", str(tmp_path / "nope")) == 1
    assert "nope: is no folder of photographs" in capsys.readouterr().err


def results_list(predictions):
    rows = json.loads(predictions.read_text())["annotations"]
    keys = ("image_id", "category_id", "segmentation", "score")
    return [{key: row[key] for key in keys} for row in rows]


def change_row(**changes):
    def change(content):
        content["annotations"][2].update(changes)

    return change


def lengthened(content):
    content["annotations"][2]["segmentation"]["counts"] += "o10o10"


def higher_without_objects(content):
    content["images"][0]["height"] = 31
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 1]
    content["occlusions"] = []


def shortened(content):
    rle = content["annotations"][2]["segmentation"]
    rle["counts"] = rle["counts"][:-2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_row(score=float("nan")), r"annotation 3 needs a finite 'score'"),
        (change_row(score=None), r"annotation 3 needs a finite 'score'"),
        (change_row(id=1), r"annotation id 1 occurs twice"),
        (change_row(image_id=99), r"annotation 3 names image 99, which is not in the file"),
        (change_row(category_id=9), r"annotation 3 names category 9, which is not in the file"),
        (change_row(bbox=[1, 2, 3]), r"annotation 3, 'bbox' is \[1, 2, 3\]"),
        (
            change_row(segmentation={"size": [6, 6], "counts": [36]}),
            r"is 6 x 6, but its image is 30 x 40",
        ),
        (
            change_row(segmentation={"size": [30, 40], "counts": [5]}),
            r"has runs of 5 pixels, but its",
        ),
        (change_row(segmentation="no mask"), r"annotation 3, 'segmentation'"),
        (lengthened, r"annotation 3, 'segmentation': has runs of \d+ pixels, but its"),
        (shortened, r"annotation 3, 'segmentation': has runs of \d+ pixels, but its"),
        (lambda c: c["annotations"].clear(), r"predictions\.json: holds no predictions"),
        (lambda c: c["categories"][0].update(name="dog"), r"predicts the classes dog, which"),
        (lambda c: c["images"][0].update(height=31), r"is 30 x 40, but its image is 31 x 40"),
        (higher_without_objects, r"image '1\.png' is 31 x 40 .* but 30 x 40"),
        (lambda c: c["images"][0].update(file_name="z.png"), r"image 'z\.png' .* is not in"),
        (
            lambda c: c["images"][0].update(file_name="2.png"),
            r"two images have the same file_name",
        ),
    ],
)
def test_bad_predictions_are_refused_in_one_line(files, capsys, change, message):
    content = json.loads(files[1].read_text())
    change(content)
    files[1].write_text(json.dumps(content))
    assert evaluate(files) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert str(files[1]) in error
    assert error.count("\n") == 1
    assert not files[2].exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[0].update(image_id=77), r"annotation 1 names image 77"),
        (lambda rows: [r.update(image_id=r["image_id"] + 50) for r in rows], r"names image 5\d"),
        (lambda rows: rows[1].pop("score"), r"result 2 has no 'score'"),
        (lambda rows: rows.clear(), r"holds no predictions"),
    ],
)
def test_bad_lists_of_results_are_refused(files, capsys, change, message):
    rows = results_list(files[1])
    change(rows)
    files[1].write_text(json.dumps(rows))
    assert evaluate(files) == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_list_of_results_has_no_visible_masks(files, capsys):
    files[1].write_text(json.dumps(results_list(files[1])))
    assert evaluate(files, "--bootstrap", "0") == 0
    metrics = json.loads((files[2] / "metrics.json").read_text())
    assert "coco.amodal_mask.AP" in metrics
    assert "coco.visible_mask.AP" not in metrics
    assert "left out: vrsp, because" in capsys.readouterr().out


def test_images_without_predictions_count_and_are_told(files):
    content = json.loads(files[1].read_text())
    first = content["annotations"][0]["image_id"]
    content["images"] = [row for row in content["images"] if row["id"] == first]
    content["annotations"] = [r for r in content["annotations"] if r["image_id"] == first]
    files[1].write_text(json.dumps(content))
    assert evaluate(files, "--bootstrap", "0") == 0
    metrics = json.loads((files[2] / "metrics.json").read_text())
    assert metrics["counts.truth.images"] == 4
    assert metrics["counts.predictions.images_without"] == 3
    assert amodal_coco.read(files[0]).images.keys() == {1, 2, 3, 4}
