import json
from pathlib import Path

import pytest
from helpers.paths import ASSETS
from helpers.scenes import write_scenes

from amodal_perception.storage import amodal_coco
from training import evaluate
from training.loop.config import from_mapping
from training.train import train

MODEL = ASSETS / "default_model.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_scenes(folder, count=3, size_hw=(90, 120), objects=3)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A network that knows its pictures a little."""
    out = tmp_path_factory.mktemp("runs") / "run"
    values = {"data": str(data), "val": str(data), "out": str(out), "input_hw": [96, 128]}
    values |= {"iterations": 30, "batch_size": 3, "warmup": 2, "workers": 0, "threads": 1}
    values |= {"precision": "fp32", "augment": False, "learning_rate": 5e-3, "ema_decay": 0.0}
    train(from_mapping(values, source="test"))
    return out


def measure(model: Path, data: Path, out: Path, *options: str) -> dict[str, float]:
    words = [str(model), "--data", str(data), "--out", str(out), "--threads", "1"]
    assert evaluate.main([*words, *options]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_run_checkpoint_and_best_are_the_same_network_here(data, run, tmp_path):
    metrics = measure(run, data, tmp_path / "run")
    assert metrics["predictions"] == "raw"
    assert metrics["coco.amodal_mask.AP50"] > 0
    for name in ("best.safetensors", "checkpoints/0000030"):
        assert measure(run / name, data, tmp_path / Path(name).stem) == metrics
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    scene = measure(run, data, tmp_path / "scene", "--scene", "--score-threshold", "0.5")
    assert scene["predictions"] == "scene"
    logged = last["metrics"]
    of_scene = {name for name in logged if name.split(".")[0] in ("order", "matched")}
    assert logged == pytest.approx(
        {name: (scene if name in of_scene else metrics)[name] for name in logged}
    )
    assert {"coco.amodal_mask.AP", "matched.instances.recall"} <= set(logged)
    assert "orcnn.all.AP_AV" in metrics
    predictions = amodal_coco.read(tmp_path / "run/predictions.json")
    assert predictions.images == amodal_coco.read(data / "annotations.json").images
    assert predictions.info["model_id"].startswith("orcnn_light@")
    assert (tmp_path / "run/report.html").stat().st_size > 1000


def test_model_files_are_measured_too(data, tmp_path):
    assert "coco.amodal_mask.AP" in measure(MODEL, data, tmp_path)


@pytest.mark.parametrize(
    ("model", "data_name", "message"),
    [
        ("nothing", "data", "nothing: is no run folder"),
        (str(MODEL), "nowhere", "nowhere/annotations.json: cannot be read"),
        ("broken.onnx", "data", "broken.onnx: is no usable ONNX model"),
    ],
)
def test_mistakes_end_in_one_line(data, tmp_path, capsys, model, data_name, message):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    words = [str(tmp_path / model), "--data", str(data.parent / data_name)]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("training.evaluate: ")
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()
