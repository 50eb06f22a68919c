import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawn_scenes import write_scenes

from amodal_perception.errors import ConfigError
from training import checkpoints
from training.config import from_mapping
from training.optim import learning_rate
from training.train import main, train

ROOT = Path(__file__).parents[2]
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


def test_run_killed_in_the_middle_goes_on_exactly(data, tmp_path):
    straight = tmp_path / "straight"
    train(from_mapping(settings(data, straight), source="test"))
    assert [record["iteration"] for record in read_log(straight)] == list(range(1, 9))
    assert [p.name for p in checkpoints.checkpoints_of(straight)] == ["0000006", "0000008"]

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "training.train", str(CONFIG)]
    command += words(settings(data, killed))
    with open(tmp_path / "output", "w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not (killed / "checkpoints/0000002").exists() and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.005)
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


def test_two_processes_share_a_batch_and_repeat_exactly(data, tmp_path):
    for name in ("a", "b"):
        values = settings(data, tmp_path / name, iterations=3, batch_size=4, processes=2)
        train(from_mapping({**values, "checkpoint_every": 3}, source="test"))
    assert read_log(tmp_path / "a") == read_log(tmp_path / "b")
    a, b = (checkpoints.averaged_weights(tmp_path / name) for name in ("a", "b"))
    assert all(a[name].equal(b[name]) for name in a)


def test_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    values = settings(data, tmp_path / "run", learning_rate=1e25, warmup=0)
    with pytest.raises(ConfigError, match=r"loss is not finite.*lower learning_rate"):
        train(from_mapping(values, source="test"))


def test_folder_of_a_run_with_other_settings_is_refused(data, tmp_path):
    train(from_mapping(settings(data, tmp_path / "run", iterations=1), source="test"))
    other = from_mapping(settings(data, tmp_path / "run", seed=1, batch_size=3), source="test")
    with pytest.raises(ConfigError, match="another batch_size, seed"):
        train(other)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("processes=3", "processes must divide batch_size 2"),
        ("modle=x", "unknown key 'modle'; valid keys: model, dataset, data"),
        ("model=orcnn_heavy", "model 'orcnn_heavy' is unknown; valid: orcnn_light"),
        ("out=", "out= is missing"),
        ("data=/nowhere", "/nowhere/annotations.json: cannot be read"),
    ],
)
def test_mistakes_end_in_one_line(data, tmp_path, capsys, word, message):
    assert main([str(CONFIG), *words(settings(data, tmp_path / "run")), word]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_damaged_checkpoint_names_the_file(data, tmp_path, capsys):
    values = settings(data, tmp_path / "run", iterations=2)
    train(from_mapping(values, source="test"))
    path = tmp_path / "run/checkpoints/0000002/model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert main([str(CONFIG), *words({**values, "iterations": 3})]) == 1
    assert "0000002/model.safetensors: cannot be read" in capsys.readouterr().err


def test_learning_rate_rises_then_falls_to_nothing():
    config = from_mapping({"iterations": 100, "warmup": 10, "learning_rate": 1.0}, source="test")
    rates = [learning_rate(config, i) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
