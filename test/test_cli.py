"""The `amodal` command as a user types it: a process of its own, its exit code, its one line."""

import json
import os
import resource
import subprocess

import numpy as np
import pytest
from helpers.command import AMODAL, amodal, failure
from helpers.onnx_models import write_model
from helpers.paths import ROOT

from amodal_perception.storage.image_files import write_image


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def photo(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    write_image(tmp_path / "photo.png", image)
    return tmp_path / "photo.png"


def test_predict_then_evaluate_against_itself(tmp_path, model, photo):
    done = amodal("predict", photo, "--model", model, "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    predictions = tmp_path / "p" / "predictions.json"
    done = amodal("evaluate", "--truth", predictions, "--predictions", predictions,
                  "--out", tmp_path / "e")  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert metrics["order.end_to_end.F1"] == pytest.approx(1)


def test_predict_goes_on_after_an_unreadable_image_and_its_exit_code_says_so(
    tmp_path, model, photo
):
    done = amodal("predict", tmp_path / "gone.png", photo, "--model", model, "--out", tmp_path)
    assert "1 of 2 images failed: " in failure(done)
    assert len(json.loads((tmp_path / "predictions.json").read_text())["images"]) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.onnx", None, "gone.onnx: no such model file"),
        ("foreign.onnx", b"hello", "foreign.onnx: is no usable ONNX model"),
        ("weights.pt", b"hello", "no engine for '.pt' files; known endings: .onnx"),
    ],
)
def test_bad_models(tmp_path, photo, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = amodal("predict", photo, "--model", tmp_path / name, "--out", tmp_path / "out")
    assert message in failure(done)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_written_file(tmp_path, model, photo):
    # A limit on file size fails in the same call as a full disk, with an error of its own.
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    out = tmp_path / "out"
    done = amodal("predict", photo, "--model", model, "--out", out, preexec_fn=limit)
    assert "File too large" in failure(done)
    assert [p for p in out.rglob("*") if p.is_file()] == []


def test_inspect_tells_what_files_hold(tmp_path, model, photo):
    done = amodal("inspect", model)
    assert done.returncode == 0, done.stderr
    assert "two_discs@" in done.stdout
    assert "288 x 384 pixels" in done.stdout
    amodal("predict", photo, "--model", model, "--out", tmp_path)
    done = amodal("inspect", tmp_path / "predictions.json")
    assert "2 (2.0 an image)" in done.stdout
    assert "predictions" in done.stdout
    assert "gone: no such file" in failure(amodal("inspect", tmp_path / "gone"))
    assert "neither a model (.onnx), a bag, nor" in failure(amodal("inspect", photo))


def test_ends_quietly_when_its_output_is_cut_off(model):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*AMODAL, "inspect", str(model)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_a_threshold_outside_its_range_is_refused(tmp_path, photo):
    done = amodal("predict", photo, "--out", tmp_path, "--score-threshold", "1.5")
    assert done.returncode == 2
    assert "1.5 is not between 0 and 1" in done.stderr


def test_an_unknown_option_or_command_lists_the_known_ones():
    done = amodal("forecast")
    assert done.returncode == 2
    for command in ("replay", "predict", "evaluate", "bench", "inspect"):
        assert command in done.stderr
