import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.scenes import write_scenes

from amodal_perception.errors import AmodalError, ConfigError
from training.loop import checkpoints, mixed_precision
from training.loop.config import from_mapping
from training.train import main, train

CONFIG = Path(os.devnull)  # defaults: the tests' settings come as words


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_scenes(folder, count=4, size_hw=(96, 128), objects=3)
    return folder


def settings(data: Path, out: Path, **changes) -> dict:
    small = {
        "data": str(data),
        "out": str(out),
        "input_hw": [96, 128],
        "iterations": 8,
        "batch_size": 2,
        "device": "cpu",
        "warmup": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "workers": 0,
        "threads": 1,
        "precision": "fp32",
    }
    return {**small, **changes}


def words(values: dict) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def read_log(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "time_s"} for record in records]


def start(values: dict, output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "training.train", str(CONFIG), *words(values)]
    with open(output, "w") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)


def wait_for(path: Path, process: subprocess.Popen, output: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        assert process.poll() is None, output.read_text()
        time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [
        below for child in children for below in descendants(int(child))
    ]


def test_no_iterations_make_the_initial_weights_a_run_that_can_be_trained(data, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(from_mapping(settings(data, first, iterations=1), source="test"))
    values = settings(data, second, iterations=0, weights=str(first))
    train(from_mapping(values, source="test"))
    own, given = (checkpoints.averaged_weights(run) for run in (second, first))
    assert own.keys() == given.keys()
    assert all(torch.equal(own[name], given[name]) for name in own)
    assert read_log(second) == []
    train(from_mapping({**values, "iterations": 2}, source="test"))
    assert [record["iteration"] for record in read_log(second)] == [1, 2]


def test_run_killed_in_the_middle_goes_on_exactly(data, tmp_path):
    straight = tmp_path / "straight"
    train(from_mapping(settings(data, straight), source="test"))
    assert [record["iteration"] for record in read_log(straight)] == list(range(1, 9))
    assert [p.name for p in checkpoints.checkpoints_of(straight)] == ["0000006", "0000008"]

    killed = tmp_path / "killed"
    process = start(settings(data, killed), tmp_path / "output")
    wait_for(killed / "checkpoints/0000002", process, tmp_path / "output")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = int(checkpoints.newest(killed).name)
    assert 2 <= done < 8
    assert main([str(CONFIG), *words(settings(data, killed))]) == 0
    assert read_log(killed) == read_log(straight)
    straight_weights = checkpoints.averaged_weights(straight)
    for name, value in checkpoints.averaged_weights(killed).items():
        assert value.equal(straight_weights[name]), name


def test_loss_falls_when_four_pictures_are_learnt_by_heart(data, tmp_path):
    run = tmp_path / "run"
    values = settings(data, run, iterations=50, batch_size=4, augment=False, checkpoint_every=50)
    values |= {"learning_rate": 3e-3, "model": {"name": "orcnn_light", "occluded_weight": 0.25}}
    train(from_mapping(values, source="test"))
    log = read_log(run)
    for term, share in {"score": 0.4, "box": 0.4, "amodal": 0.9, "visible": 0.7}.items():
        assert log[-1][term] < share * log[0][term], term


def test_another_run_can_start_from_its_weights(data, tmp_path):
    train(from_mapping(settings(data, tmp_path / "a", iterations=1), source="test"))
    values = settings(data, tmp_path / "b", iterations=1, learning_rate=0.0)
    values["weights"] = str(tmp_path / "a")
    train(from_mapping({**values, "input_hw": [64, 96]}, source="test"))
    a = checkpoints.averaged_weights(tmp_path / "a")
    b = checkpoints.averaged_weights(tmp_path / "b" / "checkpoints" / "0000001")
    assert a["backbone.stem.0.0.weight"].equal(b["backbone.stem.0.0.weight"])


def test_two_processes_end_with_the_one_that_started_them_and_go_on_exactly(data, tmp_path):
    values = settings(data, tmp_path / "a", iterations=4, processes=2, checkpoint_every=1)
    values |= {"val": str(data), "evaluate_every": 2, "workers": 1}
    assert start(values, tmp_path / "output").wait() == 0, (tmp_path / "output").read_text()

    values["out"] = str(tmp_path / "b")
    process = start(values, tmp_path / "output")
    wait_for(tmp_path / "b/checkpoints/0000001", process, tmp_path / "output")
    children = descendants(process.pid)
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "processes outlive the one that started them"
        time.sleep(0.05)
    assert checkpoints.newest(tmp_path / "b").name != "0000004"
    assert start(values, tmp_path / "output").wait() == 0, (tmp_path / "output").read_text()

    assert read_log(tmp_path / "a") == read_log(tmp_path / "b")
    for name in ("checkpoints/0000004/ema.safetensors", "best.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_loss_that_is_not_finite_stops_the_run_and_leaves_the_batch(data, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"loss is not finite.*look at the batch in .*process_0"):
        train(from_mapping(settings(data, run, learning_rate=1e25, warmup=0), source="test"))
    (folder,) = run.glob("not_finite_*/process_0")
    assert len(list(folder.glob("image_*.png"))) == 2
    batch = np.load(folder / "batch.npz")  # numpy refuses pickles by itself
    assert batch["images"].shape == (2, 96, 128, 3)
    assert batch["images"].dtype == np.uint8
    assert (batch["visible"] <= batch["amodal"]).all()


def test_evaluation_in_the_loop_keeps_the_best_weights(data, tmp_path):
    run = tmp_path / "run"
    values = settings(data, run, iterations=3, val=str(data), evaluate_every=1, augment=False)
    train(from_mapping({**values, "best_metric": "orcnn.all.AP_AV"}, source="test"))
    evaluations = [record for record in read_log(run) if "metrics" in record]
    assert [record["iteration"] for record in evaluations] == [1, 2, 3]
    figures = [record["metrics"]["orcnn.all.AP_AV"] for record in evaluations]
    best = checkpoints.best_metrics(run)
    assert best == evaluations[figures.index(max(figures))]["metrics"]
    assert checkpoints.averaged_weights(run / "best.safetensors").keys() == (
        checkpoints.averaged_weights(run).keys()
    )
    assert checkpoints.read_config(run / "best.safetensors")[0].val == str(data)
    assert list((run / "tensorboard").iterdir())


@pytest.mark.parametrize(
    ("best", "message"),
    [
        (
            "coco.amodal.AP",
            r"best_metric=coco\.amodal\.AP is unknown; valid: coco\.amodal_mask\.AP, ",
        ),
        ("AP", "unknown protocol AP"),
    ],
)
def test_unknown_figure_to_keep_the_best_by_is_found_before_training(
    data, tmp_path, best, message
):
    values = settings(data, tmp_path / "run", iterations=1, val=str(data), best_metric=best)
    with pytest.raises(AmodalError, match=message):
        train(from_mapping(values, source="test"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change", [{"optimizer": "sgd"}, {"optimizer": "muon"}, {"precision": "fp16"}]
)
def test_optimiser_and_scale_of_the_loss_go_on_exactly(data, tmp_path, change):
    values = settings(data, tmp_path / "straight", iterations=3, input_hw=[32, 64], batch_size=1)
    values |= {"schedule": "step", "steps": [2], "learning_rate": 0.01, **change}
    train(from_mapping(values, source="test"))
    values["out"] = str(tmp_path / "resumed")
    train(from_mapping({**values, "iterations": 2}, source="test"))
    train(from_mapping(values, source="test"))
    assert read_log(tmp_path / "resumed") == read_log(tmp_path / "straight")
    rates = [record["learning_rate"] for record in read_log(tmp_path / "straight")]
    assert rates == pytest.approx([0.005, 0.01, 0.001])


def test_precision_is_chosen_for_the_device_and_kept(data, tmp_path, monkeypatch):
    values = settings(data, tmp_path / "run", iterations=1, precision="auto")
    monkeypatch.setattr(mixed_precision, "has_bf16", lambda device: False)
    train(from_mapping(values, source="test"))
    monkeypatch.setattr(mixed_precision, "has_bf16", lambda device: True)
    train(from_mapping({**values, "iterations": 2}, source="test"))
    assert checkpoints.read_config(tmp_path / "run")[0].precision == "fp32"


def test_provenance_is_kept_of_every_start(data, tmp_path):
    run = tmp_path / "run"
    values = settings(data, run, iterations=1)
    for iterations in (1, 2):
        train(from_mapping({**values, "iterations": iterations}, source="test"))
    first, second = json.loads((run / "provenance.json").read_text())
    assert (first["after"], second["after"]) == (None, "0000001")
    assert second["packages"]["torch"] == torch.__version__.split("+")[0]
    assert second["threads_per_process"] == 1
    assert checkpoints.read_config(run)[0].iterations == 2
    assert len(list((run / "first_batch").glob("*.png"))) == 2


def test_folder_of_a_run_with_other_settings_is_refused(data, tmp_path):
    train(from_mapping(settings(data, tmp_path / "run", iterations=1), source="test"))
    other = from_mapping(settings(data, tmp_path / "run", seed=1, batch_size=3), source="test")
    with pytest.raises(ConfigError, match="another batch_size, seed"):
        train(other)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("processes=3", "processes must divide batch_size 2"),
        ("modle=x", "command line: unknown key 'modle'; did you mean 'model'? valid keys: model,"),
        ("batchsize=3", "command line: unknown key 'batchsize'; did you mean 'batch_size'?"),
        (f"weights={__file__}", "is no file of weights; give a run folder"),
        ("model=orcnn_heavy", "model 'orcnn_heavy' is unknown; valid: mask_rcnn,"),
        ("out=", "out= is missing"),
        ("data=/nowhere", "/nowhere/annotations.json: cannot be read"),
        ("dataset=coco", "dataset must be one of amodal_coco, amodal_boxes, but is 'coco'"),
        ("sync_batchnorm=true", "sync_batchnorm=true needs GPUs"),
    ],
)
def test_mistakes_end_in_one_line(data, tmp_path, capsys, word, message):
    assert main([str(CONFIG), *words(settings(data, tmp_path / "run")), word]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("training.train: ")
    assert message in error
    assert "\n" not in error


def test_damaged_checkpoint_names_the_file(data, tmp_path, capsys):
    values = settings(data, tmp_path / "run", iterations=2)
    train(from_mapping(values, source="test"))
    path = tmp_path / "run/checkpoints/0000002/model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert main([str(CONFIG), *words({**values, "iterations": 3})]) == 1
    assert "0000002/model.safetensors: cannot be read" in capsys.readouterr().err


def test_frozen_parts_keep_weights_and_statistics(data, tmp_path):
    first, run = tmp_path / "first", tmp_path / "run"
    train(from_mapping(settings(data, first, iterations=2), source="test"))
    given = settings(data, run, weights=str(first), iterations=2, ema_decay=0.0)
    train(from_mapping({**given, "frozen": ["backbone", "fpn", "detector"]}, source="test"))
    before, after = (checkpoints.averaged_weights(folder) for folder in (first, run))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"mask_heads"}


def test_frozen_names_parts_there_are(data, tmp_path):
    values = settings(data, tmp_path / "run", frozen=["backbone", "neck"])
    with pytest.raises(ConfigError, match=r"no 'neck'; it has .*backbone, fpn, detector"):
        train(from_mapping(values, source="test"))
    with pytest.raises(ConfigError, match="frozen must be a list of str, but is 'backbone'"):
        from_mapping({**values, "frozen": "backbone"}, source="test")
