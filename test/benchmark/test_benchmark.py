from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from helpers.onnx_models import INPUT_HW, write_model

from amodal_perception.benchmark.benchmark import OBJECTS, peer_steps, run_benchmark, summarise
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.replay.jobs import ModelSettings

STAGES = ["decode", "preprocess", "engine", "postprocess", "ordering", "message", "publish"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[ModelSettings]:
    folder = tmp_path_factory.mktemp("models")
    small_hw = INPUT_HW[0] // 2, INPUT_HW[1] // 2
    paths = [
        write_model(folder / "whole.onnx"),
        write_model(folder / "half.onnx", input_hw=small_hw),
    ]
    return [ModelSettings(path, num_threads=1) for path in paths]


def test_every_stage_of_every_model_is_timed(models, tmp_path, capsys):
    json_path, page_path = tmp_path / "figures.json", tmp_path / "page.html"
    figures = run_benchmark(models, frames=3, json_path=json_path, page_path=page_path)
    assert json.loads(json_path.read_text()) == figures
    assert figures["machine"]["threads"] == 1
    assert figures["sgemm_gflops"]["p50"] > 0
    whole, half = figures["models"]
    assert (whole["input_hw"], half["input_hw"]) == ([288, 384], [144, 192])
    for model in (whole, half):
        assert list(model["stages_ms"]) == STAGES
        assert (model["objects"], model["instances"], model["classes"]) == (OBJECTS, 32, 1)
        for row in (*model["stages_ms"].values(), model["total_ms"]):
            assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        # Not the sum of medians, but the median of sums: between the largest part and all.
        assert model["total_ms"]["p50"] > max(row["p50"] for row in model["stages_ms"].values())
        assert model["all_but_engine_ms"]["p50"] < model["total_ms"]["p50"]
        assert model["peak_memory_mib"] > model["memory_mib"] > 0
        assert "peer" not in model
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in STAGES)
    assert "frames per second" in printed
    page = page_path.read_text()
    assert "Latency and image size" in page  # in which the two differ, and in nothing else
    assert "Latency and instances" not in page
    assert page.count("publish") == 2


def test_summary_by_hand():
    rows = [
        {"preprocess": 1.0, "engine": 10.0, "postprocess": 2.0, "ordering": 0.5, "message": 0.5},
        {"preprocess": 3.0, "engine": 40.0, "postprocess": 2.0, "ordering": 1.5, "message": 0.5},
        {"preprocess": 2.0, "engine": 20.0, "postprocess": 2.0, "ordering": 2.5, "message": 0.5},
    ]
    found = summarise(rows, 2.0, np.array([400.0, 100.0, 100.0]))
    assert found["stages_ms"]["engine"]["p50"] == 20.0
    assert found["total_ms"]["p50"] == 27.0
    assert found["all_but_engine_ms"]["p50"] == 7.0
    assert found["postprocess_ordering_message_ms"]["p50"] == 4.0
    assert found["frames_per_second"] == pytest.approx(1000 / 27, abs=0.01)
    assert found["engine_gflops"]["p50"] == 100.0
    # Shares within the rounds: 200 of 400, 50 of 100, 100 of 100.
    assert found["sgemm_share"] == 0.5
    assert "sgemm_share" not in summarise(rows, None, np.ones(3))


def test_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    monkeypatch.delitem(sys.modules, "training.studies.torchvision_peer", raising=False)
    with pytest.raises(ConfigError, match="peer torchvision needs torch and torchvision"):
        peer_steps("torchvision", (64, 96), 7, 2, 1)


def test_model_that_cannot_be_loaded_ends_the_run(tmp_path):
    with pytest.raises(ModelFileError, match=r"gone\.onnx: no such model file"):
        run_benchmark([ModelSettings(tmp_path / "gone.onnx")], frames=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames is 0, but at least 1"),
        ({"objects": 0}, "objects is 0, but at least 1"),
        ({"peer": "yolo"}, "unknown peer 'yolo'; known are: torchvision"),
    ],
)
def test_bad_options(models, options, message):
    with pytest.raises(ConfigError, match=message):
        run_benchmark(models, **options)
