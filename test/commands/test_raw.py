"""Raw and scene, from the command line: predict, then evaluate, each says which it is of."""

import json

import numpy as np
import pytest
from helpers.onnx_models import CELLS, METADATA, write_constant_model
from helpers.scenes import annotation

from amodal_perception.cli import main
from amodal_perception.evaluation.protocols import PROTOCOLS
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import write_image

SIZE_HW = (288, 384)
BOX = (40, 60, 240, 220)
FULL = np.ones((CELLS, CELLS), np.float32)
CERTAIN = pytest.approx(1.0)
LEFT = np.tile(np.repeat(np.float32([1, 0]), CELLS // 2), (CELLS, 1))


def model_of(path, rows, *, class_names=("object",), occluded=None, one_mask=False):
    """Write a model that gives these rows (score, label, box, amodal, visible) for any image."""
    masks = {"amodal": [r[3] for r in rows], "visible": [r[4] for r in rows]}
    if occluded is not None:
        masks["occluded"] = [occluded] * len(rows)
    values = {
        "boxes": np.array([r[2] for r in rows], np.float32),
        "scores": np.array([r[0] for r in rows], np.float32),
        "labels": np.array([r[1] for r in rows], np.int64),
        **{name: np.stack(grids) for name, grids in masks.items()},
    }
    metadata = {"class_names": json.dumps(class_names), "one_mask": json.dumps(one_mask)}
    return write_constant_model(path, values=values, metadata=METADATA | metadata)


def box_mask(box, part=1.0):
    whole = np.zeros(SIZE_HW, bool)
    x0, y0, x1, y1 = box
    whole[y0:y1, x0 : round(x0 + part * (x1 - x0))] = True
    return whole


@pytest.fixture
def truth_of(tmp_path):
    """Write one picture and its truth: rows (label, box, visible part, from the left)."""

    def write(objects, class_names=("object",), occlusions=()):
        write_image(tmp_path / "a.png", np.full((*SIZE_HW, 3), 90, np.uint8))
        rows = [
            {
                "id": number,
                **annotation(box_mask(box), box_mask(box, part), category=label + 1),
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            }
            for number, (label, box, part) in enumerate(objects, 1)
        ]
        amodal_coco.write(
            tmp_path / "truth.json",
            images=[amodal_coco.image_record(1, "a.png", SIZE_HW)],
            annotations=rows,
            categories=amodal_coco.categories_of(class_names),
            occlusions=[
                {"image_id": 1, "occluder_id": a, "occludee_id": b} for a, b in occlusions
            ],
        )
        return tmp_path / "truth.json"

    return write


@pytest.fixture
def figures_of(tmp_path):
    """Predict and evaluate; return metrics.json."""

    def measure(model, truth, *options):
        out = tmp_path / "-".join(("out", *options))
        words = ["predict", str(tmp_path / "a.png"), "--model", str(model), "--out", str(out)]
        assert main([*words, *options]) == 0
        words = ["evaluate", "--truth", str(truth), "--out", str(out), "--bootstrap", "0"]
        assert main([*words, "--predictions", str(out / "predictions.json")]) == 0
        return json.loads((out / "metrics.json").read_text())

    return measure


def test_of_two_classes_on_one_box_raw_scoring_loses_none(tmp_path, truth_of, figures_of):
    classes = ("cup", "mug")
    model = model_of(
        tmp_path / "m.onnx",
        [(0.9, 0, BOX, FULL, FULL), (0.8, 1, BOX, FULL, FULL)],
        class_names=classes,
    )
    truth = truth_of([(1, BOX, 1.0)], classes)
    raw, scene = figures_of(model, truth, "--raw"), figures_of(model, truth)
    assert (raw["predictions"], scene["predictions"]) == ("raw", "scene")
    for target in ("amodal_mask", "visible_mask"):
        assert raw[f"coco.{target}.AP50"] == CERTAIN
        assert scene[f"coco.{target}.AP50"] == 0.0  # the robot is told of the cup alone


def test_a_near_copy_keeps_the_visible_rate_that_the_network_gives_it(
    tmp_path, truth_of, figures_of
):
    """AP-occ forgives false alarms that call themselves unoccluded."""
    copy = (44, 62, 244, 222)
    hidden = (250, 60, 370, 220)
    model = model_of(
        tmp_path / "m.onnx",
        [(0.95, 0, BOX, FULL, FULL), (0.9, 0, copy, FULL, FULL), (0.5, 0, hidden, FULL, LEFT)],
    )
    truth = truth_of([(0, BOX, 1.0), (0, hidden, 0.5)])
    raw = figures_of(model, truth, "--raw")
    scene = figures_of(model, truth, "--overlap-threshold", "1")
    assert raw["vrsp.amodal_mask.AP50_occ85"] == CERTAIN
    assert scene["vrsp.amodal_mask.AP50_occ85"] < 1.0
    assert raw["strict.amodal_mask.AP50_occ85"] < 1.0
    rows = json.loads((tmp_path / "out---raw" / "predictions.json").read_text())["annotations"]
    assert [row["occlusion_rate"] for row in rows] == pytest.approx([0, 0, 0.5], abs=0.01)


def test_protocols_of_the_robots_view_are_left_out_of_raw_figures(
    tmp_path, truth_of, figures_of, capsys
):
    model = model_of(tmp_path / "m.onnx", [(0.9, 0, BOX, FULL, FULL)])
    hidden = (100, 60, 300, 220)
    truth = truth_of([(0, BOX, 1.0), (0, hidden, 0.5)], occlusions=[(1, 2)])
    measured = {name.split(".")[0] for name in figures_of(model, truth, "--raw")}
    of_scene = {name for name, protocol in PROTOCOLS.items() if protocol.of_scene}
    assert of_scene == {"order", "pcnet", "instaorder", "uoais", "matched"}
    assert measured - {"counts", "predictions"} == set(PROTOCOLS) - of_scene
    printed = capsys.readouterr().out
    assert "figures of what the network gives (raw)" in printed
    assert (
        "left out: uoais, order, pcnet, instaorder, matched, because what the robot is told"
        in printed
    )
    assert {name.split(".")[0] for name in figures_of(model, truth)} >= set(PROTOCOLS)
    assert "figures of what the robot is told (scene)" in capsys.readouterr().out
    for folder, word in (("out---raw", "(raw)"), ("out", "(scene)")):
        assert word in (tmp_path / folder / "report.html").read_text()


def test_ap_iv_measures_the_third_mask(tmp_path, truth_of, figures_of):
    """ORCNN's own mask of the hidden part, not what is left of the other two."""
    truth = truth_of([(0, BOX, 0.5)])
    rows = [(0.9, 0, BOX, FULL, FULL)]  # amodal less visible is nothing
    own = model_of(tmp_path / "own.onnx", rows, occluded=1 - LEFT)
    assert figures_of(own, truth, "--raw")["orcnn.occluded.AP_IV50"] == CERTAIN
    without = model_of(tmp_path / "without.onnx", rows)
    assert figures_of(without, truth, "--raw")["orcnn.occluded.AP_IV50"] == 0.0


def test_a_network_with_one_mask_has_no_ap_iv_and_claims_no_visible_rate(
    tmp_path, truth_of, figures_of, capsys
):
    model = model_of(tmp_path / "m.onnx", [(0.9, 0, BOX, FULL, FULL)], one_mask=True)
    truth = truth_of([(0, BOX, 0.9)])
    raw, scene = figures_of(model, truth, "--raw"), figures_of(model, truth)
    assert raw["orcnn.occluded.AP_V"] == pytest.approx(0.9, abs=0.11)  # its one mask is scored
    for figures in (raw, scene):
        assert "orcnn.occluded.AP_IV50" not in figures
    assert "left out: vrsp, because" in capsys.readouterr().out
    assert not any("hidden_mask" in name for name in raw)
    assert main(["inspect", str(model)]) == 0
    assert "one, as amodal and as visible mask" in capsys.readouterr().out


def test_raw_takes_every_score_unless_one_is_asked_for(tmp_path, truth_of, figures_of):
    rows = [(0.9, 0, BOX, FULL, FULL), (0.01, 0, (250, 60, 370, 220), FULL, FULL)]
    truth = truth_of([(0, BOX, 1.0)])
    model = model_of(tmp_path / "m.onnx", rows)
    assert figures_of(model, truth, "--raw")["counts.predictions.objects"] == 2
    asked = figures_of(model, truth, "--raw", "--score-threshold", "0.5")
    assert asked["counts.predictions.objects"] == 1
    assert figures_of(model, truth)["counts.predictions.objects"] == 1
    assert not list(tmp_path.glob("out---raw/overlays"))
