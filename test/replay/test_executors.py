"""Runs on many cores: killed, or on Ray."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.command import AMODAL
from helpers.onnx_models import write_model
from helpers.paths import ROOT
from helpers.replays import RUNS, replay, summary_of

from amodal_perception.errors import ConfigError
from amodal_perception.replay import executors
from amodal_perception.replay.jobs import ModelSettings, list_jobs


def test_a_killed_batch_leaves_no_process_and_no_half_run(tmp_path, bags):
    (bags / "torn.mcap").unlink()
    slow = write_model(tmp_path / "slow.onnx", busy_loops=4)
    out = tmp_path / "out"
    command = [*AMODAL, "replay", str(bags)]
    command += ["--model", str(slow), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: list(out.rglob(".run_*")), "a run to begin")
        workers = [pid for pid in children(process.pid) if b"spawn_main" in command_line(pid)]
        assert workers
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(command_line(pid) for pid in workers), "the workers to end")
    assert not (out / "summary.json").exists()
    assert replay(bags, "--model", slow, "--out", out, "--workers", 1) == 0
    assert [row["folder"] for row in summary_of(out)["runs"]] == RUNS
    assert not list(out.rglob(".run_*"))


def test_a_killed_worker_costs_no_run(tmp_path, bags):
    (bags / "torn.mcap").unlink()
    slow = write_model(tmp_path / "slow.onnx", busy_loops=4)
    out = tmp_path / "out"
    command = [*AMODAL, "replay", str(bags)]
    command += ["--model", str(slow), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(out.rglob(".run_*")), "a run to begin")
    workers = [pid for pid in children(process.pid) if b"spawn_main" in command_line(pid)]
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait() == 0
    assert [row["folder"] for row in summary_of(out)["runs"]] == RUNS
    assert not summary_of(out)["failed"]


def test_a_run_whose_process_is_always_killed_is_told(tmp_path, bags):
    (bags / "torn.mcap").unlink()
    slow = write_model(tmp_path / "slow.onnx", busy_loops=4)
    out = tmp_path / "out"
    command = [*AMODAL, "replay", str(bags)]
    command += ["--model", str(slow), "--out", str(out), "--workers", "2"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stderr=errors)
    while process.poll() is None:
        if list((out / "one").rglob(".run_*")):
            for pid in children(process.pid):
                if b"spawn_main" in command_line(pid):
                    os.kill(pid, signal.SIGKILL)
                    wait_for(lambda pid=pid: not command_line(pid), "the worker to end")
            shutil.rmtree(out / "one", ignore_errors=True)
        time.sleep(0.02)
    assert process.returncode == 1
    summary = summary_of(out)
    assert [row["folder"] for row in summary["runs"]] == RUNS[:-1]
    (failure,) = summary["failed"]
    assert "was killed, most likely for want of memory" in failure["error"]
    assert str(bags / "one") in (tmp_path / "errors").read_text()


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited 60 s for {what}"
        time.sleep(0.05)


def test_without_ray_the_remedy_is_named(tmp_path, bags, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    jobs, _ = list_jobs([bags], tmp_path / "out", ModelSettings(model))
    with pytest.raises(ConfigError, match="pip install ray"):
        list(executors.run_on_ray(jobs, "auto"))


def test_on_ray(tmp_path, bags, model):
    pytest.importorskip("ray", reason="needs Ray, which is optional")
    out, here = tmp_path / "out", tmp_path / "here"
    (bags / "torn.mcap").unlink()
    assert replay(bags, "--model", model, "--out", out, "--ray", "local") == 0
    assert replay(bags, "--model", model, "--out", here, "--workers", 1) == 0
    assert summary_of(out)["scenes_sha256"] == summary_of(here)["scenes_sha256"]
