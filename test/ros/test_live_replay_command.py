"""``amodal replay --live``, as ``make demo`` runs it, with a model that always sees two discs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.command import amodal

pytest.importorskip("rosbags", reason="needs rosbags")
from helpers.bag_writing import image_message, write_bag

FRAMES = 8
PERIOD_NS = 100_000_000


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    """Write a bag of raw grey images."""
    image = np.full((48, 64, 3), 90, np.uint8)
    camera = [image_message(image, 5 * 10**9 + i * PERIOD_NS) for i in range(FRAMES)]
    return write_bag(tmp_path_factory.mktemp("camera") / "bag", {"/eye": camera})


def replay_live(bag, *arguments) -> subprocess.CompletedProcess:
    return amodal("replay", bag, "--live", *arguments)


def test_every_frame_is_accounted_for(ros, models, bag, tmp_path):
    done = replay_live(bag, "--model", models.quick, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "frames sent" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames_sent"] == FRAMES
    assert summary["frames_processed"] + summary["frames_dropped"] == FRAMES
    assert summary["frames_processed"] > 0
    assert summary["instances_mean"] == 2
    assert summary["edges_mean"] == 1
    assert summary["model_id"].startswith("two_discs@")
    assert summary["latency_ms"]["p50"] > summary["stages_ms"]["engine"]["p50"] > 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "scenes.mcap").is_file()
    # The bag was recorded 1 ms after the stamps.
    delay_ms = summary["age_ms"]["p50"] - summary["latency_ms"]["p50"]
    assert delay_ms == pytest.approx(1, abs=0.01)
    assert summary["age_in_use_ms"]["p50"] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"--model": "/nowhere.onnx"}, "/nowhere.onnx: no such model file"),
        ({"bag": "/nowhere"}, "/nowhere: no such bag"),
        ({"--truth": "/nowhere.json"}, "/nowhere.json"),
    ],
)
def test_says_in_one_line_what_is_missing(ros, models, bag, tmp_path, given, message):
    arguments = {"bag": bag, "--model": models.quick, "--out": tmp_path / "out", **given}
    done = replay_live(
        arguments.pop("bag"), *(text for pair in arguments.items() for text in pair)
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("amodal: ")
    assert message in line
    assert not (tmp_path / "out").exists()
