"""Engines are compared by hand-made models, whose differences are known."""

import numpy as np
import pytest
from helpers.onnx_models import INPUT_HW, write_model
from helpers.scenes import write_scenes

from amodal_perception.errors import ModelFileError
from amodal_perception.runtime import load_runtime
from training.export.parity import (
    TOLERANCES,
    ParityResult,
    Tolerances,
    compare_engines,
    main,
    mask_iou,
)

BOXES = np.array([[100, 80, 220, 200], [160, 90, 280, 190]], np.float32)
IMAGES = [np.zeros((*INPUT_HW, 3), np.uint8)] * 2


@pytest.fixture
def made(tmp_path):
    def make(boxes_xyxy=BOXES, scores=(0.9, 0.8)):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        return load_runtime(write_model(path, boxes_xyxy=boxes_xyxy, scores=np.array(scores)))

    return make


def test_the_same_twice(made):
    found = compare_engines(made(), made(), IMAGES)
    assert found == ParityResult(4, 2, 0, 0, 0, 1, 1, 1)
    assert found.failures(TOLERANCES["fp32"]) == []


def test_boxes_and_scores_that_moved(made):
    found = compare_engines(made(), made(BOXES + [[1, 0, 1, 0], [0, 0, 0, 0]], (0.9, 0.7)), IMAGES)
    assert found.box_px == pytest.approx(0.25)  # two of eight corners' coordinates, by 1
    assert found.score == pytest.approx(0.05)
    assert 0.98 < found.amodal_iou < 1
    assert found.graph == 1
    (box_px, *_) = found.failures(TOLERANCES["int8"])
    assert box_px == "score is 0.05 (tolerance 0.025)"


def test_order_of_the_rows_does_not_matter(made):
    swapped = compare_engines(
        made(scores=(0.8, 0.8)), made(BOXES[::-1].copy(), (0.8, 0.8)), IMAGES
    )
    assert (swapped.lost, swapped.box_px, swapped.amodal_iou) == (0, 0, 1)


def test_lost_instances_of_either(made):
    one = made(BOXES[:1], (0.9,))
    for pair in ((made(), one), (one, made())):
        found = compare_engines(*pair, IMAGES)
        assert found.lost == pytest.approx(0.5)
        assert (found.edges, found.graph) == (0, 1)  # edges of what is lost count as lost once
    unsure = made(scores=(0.9, 0.53))
    assert compare_engines(unsure, one, IMAGES).lost == pytest.approx(0.5)
    assert compare_engines(unsure, one, IMAGES, margin=0.05).lost == 0


def test_edges_of_one_alone(made):
    touching = np.array([[100, 80, 200, 180], [190, 80, 290, 180]], np.float32)
    apart = touching + np.array([[0, 0, 0, 0], [20, 0, 20, 0]], np.float32)
    found = compare_engines(made(touching), made(apart), IMAGES)
    assert (found.lost, found.edges, found.graph) == (0, 2, 0)
    assert compare_engines(made(apart), made(touching), IMAGES).graph == 0


def test_nothing_found_is_no_agreement(made):
    blind = made(scores=(0.2, 0.1))
    with pytest.raises(ModelFileError, match="finds no object in the images"):
        compare_engines(blind, blind, IMAGES)


def test_mask_iou_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 5, 7)) < 0.5, rng.random((2, 5, 7)) < 0.5
    b[1] = False
    for i in range(3):
        for j in range(2):
            common, either = (a[i] & b[j]).sum(), (a[i] | b[j]).sum()
            assert mask_iou(a, b)[i, j] == pytest.approx(common / max(either, 1))
    assert mask_iou(a[:0], b).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [("lost", 0.2, 0.1), ("amodal_iou", 0.8, 0.9), ("graph", 0.8, 0.9), ("ap_loss", 0.2, 0.1)],
)
def test_every_figure_can_fail(name, value, limit):
    good = {"lost": 0, "box_px": 0, "score": 0, "amodal_iou": 1, "visible_iou": 1, "graph": 1}
    tolerances = Tolerances(0.1, 0.1, 0.1, 0.9, 0.9, 0.1, 0.0)
    assert ParityResult(1, 1, **good).failures(tolerances) == []
    found = ParityResult(1, 1, **{**good, name: value}).failures(tolerances)
    assert found == [f"{name} is {value} (tolerance {limit})"]


def test_command(tmp_path, capsys):
    write_scenes(tmp_path / "data", count=2)
    same, moved = tmp_path / "a.onnx", tmp_path / "b.onnx"
    write_model(same, boxes_xyxy=BOXES)
    write_model(moved, boxes_xyxy=BOXES + 3)
    words = ["--data", str(tmp_path / "data"), "--json", str(tmp_path / "parity.json")]
    assert main([str(same), str(same), *words]) == 0
    assert "passes" in capsys.readouterr().out
    assert main([str(same), str(same), str(moved), *words]) == 1
    assert "FAILS: box_px" in capsys.readouterr().out
    assert '"failures": [' in (tmp_path / "parity.json").read_text()
    assert main([str(tmp_path / "gone.onnx"), str(same), *words]) == 1
    assert "gone.onnx: " in capsys.readouterr().err
