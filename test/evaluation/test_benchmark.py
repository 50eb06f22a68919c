from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from contract_model import write_model

from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.benchmark import (
    OBJECTS,
    PEER_FRAMES,
    benchmark,
    make_crowd,
    run_benchmark,
)
from amodal_perception.ordering import occlusion_graph
from amodal_perception.pipeline import Pipeline
from amodal_perception.postprocess import postprocess
from amodal_perception.preprocess import letterbox
from amodal_perception.runtime import load_runtime

STAGES = ["decode", "preprocess", "engine", "postprocess", "ordering", "message"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    path = write_model(tmp_path_factory.mktemp("model") / "two_discs.onnx")
    return Pipeline(load_runtime(path, num_threads=1))


def test_crowd_is_a_cluttered_scene(pipeline):
    metadata = pipeline.runtime.metadata
    crowd = make_crowd(metadata)
    _, view = letterbox(np.zeros((480, 640, 3), np.uint8), metadata.input_hw)
    instances = postprocess(crowd, view)
    assert len(instances) == OBJECTS
    assert 0.15 < instances.occlusion_rate.mean() < 0.5
    assert len(occlusion_graph(instances).edges) >= OBJECTS
    assert len(crowd.scores) == metadata.max_instances


def test_every_stage_is_timed(pipeline, tmp_path, capsys):
    path = tmp_path / "figures.json"
    figures = run_benchmark(pipeline, frames=5, json_path=path)
    assert json.loads(path.read_text()) == figures
    assert list(figures["stages_ms"]) == STAGES
    assert figures["objects_per_frame"] == OBJECTS
    assert figures["frames"] == 5
    for row in (*figures["stages_ms"].values(), figures["total_ms"]):
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    # Not the sum of medians, but the median of sums: between the largest part and everything.
    assert figures["total_ms"]["p50"] > max(row["p50"] for row in figures["stages_ms"].values())
    assert figures["all_but_engine_ms"]["p50"] < figures["total_ms"]["p50"]
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in STAGES)
    assert "frames per second" in printed


def test_peer_runs_between_our_frames(pipeline):
    seen = []
    figures = benchmark(pipeline, frames=2 * PEER_FRAMES, peer=seen.append)
    assert len(seen) == PEER_FRAMES + 1  # one to warm up
    assert {image.shape for image in seen} == {(480, 640, 3)}
    assert set(figures["peer_ms"]) == {"p50", "p95", "p99"}
    assert figures["peer_over_total"] == pytest.approx(
        figures["peer_ms"]["p50"] / figures["total_ms"]["p50"], abs=0.01
    )


def test_peer_that_is_not_installed(pipeline, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    with pytest.raises(ConfigError, match="peer torchvision needs torch and torchvision"):
        run_benchmark(pipeline, frames=1, peer="torchvision")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames is 0, but at least 1"),
        ({"peer": "yolo"}, "unknown peer 'yolo'; known are: torchvision"),
    ],
)
def test_bad_options(pipeline, options, message):
    with pytest.raises(ConfigError, match=message):
        run_benchmark(pipeline, **options)
