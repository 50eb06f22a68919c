"""Many bags and cameras at once: real processes, real bags, a model that sees two discs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_writing import image_message, write_bag
from helpers.onnx_models import write_model
from helpers.paths import ROOT
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.cli import main
from amodal_perception.errors import ConfigError, DatasetError, ModelFileError
from amodal_perception.replay import executors
from amodal_perception.replay.batch_summary import pooled
from amodal_perception.replay.jobs import ModelSettings, attempt, plan, replay_job
from amodal_perception.storage import amodal_coco

SIZE_HW = (48, 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "two_discs.onnx")


@pytest.fixture
def bags(tmp_path) -> Path:
    """A folder with three bags of four cameras, and one that is damaged."""
    folder = tmp_path / "bags"

    def camera(first_s: int, count: int) -> list:
        rng = np.random.default_rng(first_s)
        images = rng.integers(0, 256, (count, *SIZE_HW, 3), dtype=np.uint8)
        return [image_message(image, (first_s + i) * 10**9) for i, image in enumerate(images)]

    write_bag(folder / "one", {"/eye": camera(10, 3)}, StoragePlugin.SQLITE3)
    write_bag(folder / "night" / "two", {"/left": camera(20, 2), "/right": camera(20, 2)})
    write_bag(
        folder / "night" / "one", {"/eye": camera(30, 4)}, compression=CompressionMode.MESSAGE
    )
    (folder / "torn.mcap").write_bytes(b"\x89MCAP0\r\n")
    return folder


def run(*arguments) -> int:
    return main(["replay", *map(str, arguments)])


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


RUNS = ["night/one", "night/two/left", "night/two/right", "one"]


def test_one_summary_over_all_on_all_cores(tmp_path, bags, model, capsys):
    out = tmp_path / "out"
    assert run(bags, "--model", model, "--out", out, "--workers", 2) == 1
    printed = capsys.readouterr()
    assert "torn.mcap: cannot be read" in printed.err
    summary = summary_of(out)
    assert [row["folder"] for row in summary["runs"]] == RUNS
    assert [row["frames_processed"] for row in summary["runs"]] == [4, 2, 2, 3]
    assert (summary["frames_sent"], summary["frames_dropped"]) == (11, 0)
    assert (summary["instances_mean"], summary["edges_mean"]) == (2, 1)
    assert summary["flicker"]["pairs"] == 3 + 1 + 1 + 2
    assert summary["latency_ms"]["p50"] > 0
    (failed,) = summary["failed"]
    assert failed["bag"].endswith("torn.mcap")
    html = (out / "report.html").read_text()
    for name in RUNS:
        assert f'href="{name}/report.html"' in html
        assert (out / name / "report.html").is_file()
    assert "torn.mcap" in html

    # In one process, in turn, the results are the same.
    alone = tmp_path / "alone"
    assert run(bags, "--model", model, "--out", alone, "--workers", 1) == 1
    assert summary_of(alone)["scenes_sha256"] == summary["scenes_sha256"]
    for name in RUNS:
        one, two = summary_of(out / name), summary_of(alone / name)
        assert one["files_sha256"] == two["files_sha256"]


def test_goes_on_where_it_stopped(tmp_path, bags, model, capsys):
    (bags / "torn.mcap").unlink()
    out = tmp_path / "out"
    arguments = (bags, "--model", model, "--out", out, "--workers", 1)
    assert run(*arguments) == 0
    first = {name: (out / name / "summary.json").stat().st_mtime_ns for name in RUNS}
    # One run is gone, and one was being written when the process was killed.
    (out / "one" / "summary.json").unlink()
    leftover = out / "one" / ".run_abc"
    leftover.mkdir()
    (leftover / "scenes.mcap").write_bytes(b"half")
    capsys.readouterr()
    assert run(*arguments) == 0
    assert "3 of 4 runs were finished before" in capsys.readouterr().out
    again = {name: (out / name / "summary.json").stat().st_mtime_ns for name in RUNS}
    assert {name for name in RUNS if again[name] != first[name]} == {"one"}
    assert not leftover.exists()
    # Other settings are other runs.
    assert run(*arguments, "--score-threshold", 0.92) == 0
    assert "finished before" not in capsys.readouterr().out
    assert summary_of(out)["instances_mean"] == 1


def test_a_killed_batch_leaves_no_process_and_no_half_run(tmp_path, bags):
    (bags / "torn.mcap").unlink()
    slow = write_model(tmp_path / "slow.onnx", busy_loops=4)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "amodal_perception.cli", "replay", str(bags)]
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
    assert run(bags, "--model", slow, "--out", out, "--workers", 1) == 0
    assert [row["folder"] for row in summary_of(out)["runs"]] == RUNS
    assert not list(out.rglob(".run_*"))


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


def test_truth_of_every_bag_is_measured_at_once(tmp_path, bags, model):
    (bags / "torn.mcap").unlink()
    first = tmp_path / "first"
    run(bags, "--model", model, "--out", first, "--workers", 1)
    truths = tmp_path / "truths"
    truths.mkdir()
    # What the model sees, called truth; of the two cameras by topic.
    cameras = []
    for side in ("left", "right"):
        content = json.loads((first / "night" / "two" / side / "predictions.json").read_text())
        for row in content["images"]:
            row["topic"] = f"/{side}"
        cameras.append(content)
    (truths / "two.json").write_text(json.dumps(merged(*cameras)))
    content = (first / "one" / "predictions.json").read_text()
    (truths / "one.json").write_text(content)
    out = tmp_path / "out"
    assert run(bags, "--model", model, "--out", out, "--truth", truths, "--workers", 1) == 0
    summary = summary_of(out)
    # night/one has the name of one, but none of its stamps: nothing is said about it.
    assert [row["AP"] is not None for row in summary["runs"]] == [False, True, True, True]
    assert summary["metrics"]["coco.amodal_mask.AP"] == pytest.approx(1)
    assert summary["metrics"]["matched.instances.recall"] == 1


def merged(a: dict, b: dict) -> dict:
    """Put two files together; ids of the second are moved."""
    for rows in (b["images"], b["annotations"]):
        for row in rows:
            row["id"] += 100
            if "image_id" in row:
                row["image_id"] += 100
    for edge in b["occlusions"]:
        for key in edge.keys() - {"confidence"}:
            edge[key] += 100
    return {**a, **{key: a[key] + b[key] for key in ("images", "annotations", "occlusions")}}


def test_truth_must_tell_cameras_apart(tmp_path, bags, model):
    first = tmp_path / "first"
    assert run(bags / "one", "--model", model, "--out", first) == 0
    truth = first / "predictions.json"
    two = bags / "night" / "two"
    with pytest.raises(DatasetError, match="names no 'topic', and the bag has several cameras"):
        plan([two], tmp_path / "out", ModelSettings(model), truth_path=truth)
    (job,), _ = plan([two], tmp_path, ModelSettings(model), topics=["/left"], truth_path=truth)
    assert (job.topic, job.out_dir, job.is_only) == ("/left", tmp_path, True)


def test_pooled_files_keep_images_apart(tmp_path, bags, model):
    run(bags / "one", "--model", model, "--out", tmp_path / "out")
    part = amodal_coco.read(tmp_path / "out" / "predictions.json")
    both = pooled([part, part]).check()
    assert len(both.images) == 2 * len(part.images)
    assert len({row["file_name"] for row in both.images.values()}) == len(both.images)
    assert len(both.annotations) == 2 * len(part.annotations)
    for old, new in zip([*part.images] * 2, sorted(both.images)):
        np.testing.assert_array_equal(part.occlusions_of(old), both.occlusions_of(new))
        assert len(part.annotations_of(old)) == len(both.annotations_of(new))


def test_bags_of_one_name_and_results_in_the_folder_itself(tmp_path, bags, model):
    jobs, errors = plan([bags / "one", bags / "night" / "one"], bags / "out", ModelSettings(model))
    assert [job.out_dir.name for job in jobs] == ["one", "one_2"]
    assert not errors
    for job in jobs:
        attempt(job, replay_job, lambda: None)
    # The scenes that were written are no recordings.
    jobs, _ = plan([bags], bags / "out", ModelSettings(model))
    assert [str(job.out_dir.relative_to(bags / "out")) for job in jobs] == RUNS


def test_topics_that_read_alike_have_folders_and_topics_of_their_own(tmp_path, model):
    camera = [image_message(np.zeros((*SIZE_HW, 3), np.uint8), 10**9)]
    bag = write_bag(tmp_path / "bag", {"/arm/eye": camera, "/arm_eye": camera})
    jobs, _ = plan([bag], tmp_path / "out", ModelSettings(model))
    assert [job.out_dir.name for job in jobs] == ["arm_eye", "arm_eye_2"]
    namespaces = [job.options.namespace for job in jobs]
    assert namespaces == ["/amodal_perception/arm_eye", "/amodal_perception/arm_eye_2"]
    (job,), _ = plan([bag / "metadata.yaml"], tmp_path, ModelSettings(model), topics=["/arm_eye"])
    assert job.options.namespace == "/amodal_perception"


def test_a_job_that_fails_is_told(tmp_path, bags, model):
    jobs, _ = plan([bags], tmp_path / "out", ModelSettings(model))
    broken = replace(jobs[0], topic="/nothing")
    outcome = attempt(broken, replay_job, lambda: None)
    assert outcome.summary is None
    assert "no image topic '/nothing'" in outcome.error
    with pytest.raises(ModelFileError, match="no such model"):
        plan([bags], tmp_path / "out", ModelSettings(tmp_path / "none.onnx"))


def test_without_ray_the_remedy_is_named(tmp_path, bags, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    jobs, _ = plan([bags], tmp_path / "out", ModelSettings(model))
    with pytest.raises(ConfigError, match="pip install ray"):
        list(executors.run_on_ray(jobs, "auto"))


def test_on_ray(tmp_path, bags, model):
    pytest.importorskip("ray", reason="needs Ray, which is optional")
    out, here = tmp_path / "out", tmp_path / "here"
    (bags / "torn.mcap").unlink()
    assert run(bags, "--model", model, "--out", out, "--ray", "local") == 0
    assert run(bags, "--model", model, "--out", here, "--workers", 1) == 0
    assert summary_of(out)["scenes_sha256"] == summary_of(here)["scenes_sha256"]


def test_options_that_exclude_each_other(tmp_path, bags, capsys):
    assert run(bags, "--out", tmp_path / "out", "--node", "/eye") == 1
    assert "--node and --rate belong to --live" in capsys.readouterr().err
    assert run(bags, "--out", tmp_path / "out", "--live", "--ray", "auto") == 1
    assert "leave out --ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_threads_do_not_make_another_run(tmp_path, bags, model):
    jobs, _ = plan([bags], tmp_path / "out", ModelSettings(model))
    assert {job.model.num_threads for job in jobs} == {0}
    fingerprints = {job.fingerprint() for job in jobs}
    assert len(fingerprints) == len(jobs)
    threaded = [replace(job, model=replace(job.model, num_threads=3)) for job in jobs]
    assert {job.fingerprint() for job in threaded} == fingerprints
