import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT
from helpers.scenes import write_scenes
from helpers.two_processes import gradients
from safetensors.torch import load_file

from training import evaluate

MODEL = ROOT / "amodal_perception/assets/default_model.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_scenes(folder, count=5, size_hw=(96, 128), objects=5)
    return folder


@pytest.fixture(scope="module")
def of_two(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("of_two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(ROOT / "test/helpers/two_processes.py")]
    subprocess.run(
        [*command, str(data), str(MODEL), str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'test'}", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return out


def test_gradient_of_two_processes_is_that_of_one_with_the_whole_batch(data, of_two):
    two = load_file(of_two / "found.safetensors")
    one = gradients(data, [0, 1, 2, 3])
    assert two.keys() == one.keys()
    assert len(one) > 50
    for name, expected in one.items():
        scale = float(expected.abs().max()) or 1.0
        torch.testing.assert_close(
            two[name] / scale, expected / scale, atol=1e-6, rtol=0, msg=name
        )


def test_two_processes_find_what_one_finds(data, of_two, tmp_path):
    words = [str(MODEL), "--data", str(data), "--out", str(tmp_path), "--threads", "1"]
    assert evaluate.main(words) == 0
    for name in ("predictions.json", "metrics.json"):
        assert (of_two / "evaluation" / name).read_bytes() == (tmp_path / name).read_bytes()
