from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from helpers.onnx_models import write_model
from helpers.scenes import instances, scene_of, write_scenes

from amodal_perception.ordering import OrderingConfig
from training.studies.depth_ordering import RULES, graph_by, main, sensor_depth

SIZE_HW = 48, 64


def test_noise_grows_with_distance_and_edges_have_holes():
    noise_m = []
    for distance_m in (0.5, 2.0):
        exact = np.full((120, 160), distance_m, np.float32)
        measured = sensor_depth(exact, np.random.default_rng(1))
        assert np.nanmedian(measured) == pytest.approx(distance_m, rel=0.02)
        noise_m.append(np.nanstd(measured))
    assert 0.0005 < noise_m[0] < noise_m[1] < 0.05
    step = np.full((120, 160), 1.0, np.float32)
    step[:, 80:] = 0.6
    is_hole = np.isnan(sensor_depth(step, np.random.default_rng(1)))
    assert is_hole[:, 78:80].mean() > 0.5  # the shadow beside the nearer surface
    assert is_hole[:, :70].mean() < 0.1
    same = sensor_depth(step, np.random.default_rng(1))
    np.testing.assert_array_equal(np.isnan(same), is_hole)


def test_what_is_out_of_reach_is_unknown():
    exact = np.full(SIZE_HW, np.nan, np.float32)
    assert np.isnan(sensor_depth(exact, np.random.default_rng(1))).all()


def test_rules_differ_by_who_must_say_so():
    """The masks say 0 hides 1; the depth, that 1 is nearer."""
    left, right = np.zeros(SIZE_HW, np.bool_), np.zeros(SIZE_HW, np.bool_)
    left[10:34, 10:32] = True
    right[10:34, 32:56] = True
    whole = right | np.roll(left, 0) & (np.arange(64) >= 29)
    scene = scene_of(instances([left, whole], [left, right]))
    depth_m = np.where(right, np.float32(0.6), np.float32(0.7))
    edges = {
        rule: graph_by(rule, scene, depth_m, OrderingConfig()).graph.edges.tolist()
        for rule in RULES
    }
    assert edges == {
        "masks": [[0, 1]],
        "depth": [[1, 0]],
        "either": [[0, 1], [1, 0]],
        "both": [],
        "used": [],
    }


def test_prints_a_table(tmp_path, capsys):
    folder = tmp_path / "drawn"
    write_scenes(folder, count=2, size_hw=SIZE_HW)
    model = write_model(tmp_path / "model.onnx")
    assert main([str(model), "--data", str(folder)]) == 1  # no depth yet
    assert "make the data with training.sim --depth" in capsys.readouterr().err
    (folder / "depth").mkdir()
    for image in json.loads((folder / "annotations.json").read_text())["images"]:
        png = str(folder / "depth" / f"{image['id']:06d}.png")
        cv2.imwrite(png, np.full(SIZE_HW, 700, np.uint16))
    assert main([str(model), "--data", str(folder), "--clean"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(RULES)
    assert lines[2].startswith("| true | masks |")
