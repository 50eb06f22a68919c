"""A bag played to real nodes over DDS, with models that always see two discs."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="needs rosbags")
from helpers.bag_writing import compressed_message, image_message, write_bag
from helpers.running_node import node_process

from amodal_perception.errors import AmodalError, BagError
from amodal_perception.pipeline import PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.replay.jobs import ModelSettings, list_jobs
from amodal_perception.storage.image_files import encode_image
from amodal_perception.storage.scene_bags import read_scenes

FRAMES = 8
PERIOD_NS = 150_000_000
IMAGE = np.full((48, 64, 3), 90, np.uint8)
STAMPS_NS = [7 * 10**9 + i * PERIOD_NS for i in range(FRAMES)]


@pytest.fixture
def live(ros):
    """Give the module under test; it cannot be imported without ROS."""
    from amodal_perception.ros import live_replay

    return live_replay


def job_of(bag, out, model, **changes):
    (job,), _ = list_jobs([bag], out, ModelSettings(model, num_threads=1))
    return replace(job, **changes)


def test_what_a_running_node_saw(live, models, tmp_path):
    bag = write_bag(tmp_path / "bag", {"/eye": [image_message(IMAGE, s) for s in STAMPS_NS]})
    job = job_of(bag, tmp_path / "out", models.quick)
    with node_process(f"model_file_path:={models.quick}", remap="image:=/eye"):
        summary = live.replay_live(job, node="/amodal_perception", rate=0.5)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames_sent"] == FRAMES
    assert summary["frames_processed"] + summary["frames_dropped"] == FRAMES
    # The node tells its model and classes; none was loaded here.
    assert summary["model_id"].startswith("two_discs@")
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["name"] for row in predictions["categories"]] == ["object"]
    assert summary["instances_mean"] == 2
    scenes = list(read_scenes(tmp_path / "out" / "scenes.mcap"))
    assert len(scenes) == summary["frames_processed"]
    assert {scene.stamp_ns for scene in scenes} <= set(STAMPS_NS)
    assert summary["age_ms"]["p50"] == pytest.approx(summary["latency_ms"]["p50"] + 1, abs=0.01)
    assert summary["age_in_use_ms"]["p50"] > summary["age_ms"]["p50"]
    # 1.05 s of bag at half the speed.
    assert 0 < summary["scenes_per_s"] < FRAMES


def test_the_node_works_with_the_settings_of_the_job(live, models, tmp_path):
    bag = write_bag(tmp_path / "bag", {"/eye": [image_message(IMAGE, s) for s in STAMPS_NS]})
    job = job_of(bag, tmp_path / "out", models.quick)
    one = PipelineConfig(postprocess=PostprocessConfig(max_instances=1))
    summary = live.replay_live(replace(job, model=replace(job.model, config=one)), rate=1.0)
    assert summary["instances_mean"] == 1


def test_a_node_that_is_too_slow_drops_frames_and_all_are_told(live, models, tmp_path):
    jpeg = np.frombuffer(encode_image(IMAGE, ".jpg"), np.uint8)
    messages = [compressed_message(jpeg, stamp_ns, "jpeg") for stamp_ns in STAMPS_NS]
    bag = write_bag(tmp_path / "bag", {"/eye/compressed": messages})
    sent = []
    summary = live.replay_live(
        job_of(bag, tmp_path / "out", models.slow), partial(sent.append, 1), rate=20.0
    )
    assert len(sent) == summary["frames_sent"] == FRAMES
    assert summary["frames_dropped"] > 0
    table = (tmp_path / "out" / "frames.csv").read_text().splitlines()
    assert sum(line.split(",")[2] == "1" for line in table[1:]) == summary["frames_dropped"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "age on arrival, median" in html


def test_images_without_stamps_are_known_by_their_recording(live, models, tmp_path):
    messages = [image_message(IMAGE, s) for s in STAMPS_NS[:3]]
    bag = write_bag(tmp_path / "bag", {"/eye": messages})
    # The recorder's time is kept, the header's is lost.
    path = bag / "bag.mcap"
    stamp = messages[1].header.stamp
    old = np.array([stamp.sec, stamp.nanosec], "<u4").tobytes()
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, bytes(8)))
    summary = live.replay_live(job_of(bag, tmp_path / "out", models.quick), rate=0.3)
    assert summary["frames_sent"] == 3
    table = (tmp_path / "out" / "frames.csv").read_text().splitlines()
    assert f",{STAMPS_NS[1] + 10**6}," in f",{table[2].split(',')[1]},"


def test_two_images_of_one_stamp_cannot_be_told_apart(live, models, tmp_path):
    bag = write_bag(tmp_path / "bag", {"/eye": [image_message(IMAGE, 10**9)] * 2})
    with pytest.raises(BagError, match=r"two images on /eye have the stamp 1000000000 ns"):
        live.replay_live(job_of(bag, tmp_path / "out", models.quick))
    assert not (tmp_path / "out").exists()


def test_a_node_that_cannot_start_is_told_at_once(live, models, tmp_path):
    bag = write_bag(tmp_path / "bag", {"/eye": [image_message(IMAGE, 10**9)]})
    job = job_of(bag, tmp_path / "out", models.quick)
    broken = replace(job, model=replace(job.model, num_threads=-1))
    with pytest.raises(AmodalError, match="ended with exit code 78 before it began"):
        live.replay_live(broken)


def test_ages_computed_by_hand(live):
    # Taken 0.1 s before they were sent; three frames a second apart, the middle one is lost.
    sent = {stamp: live.SentFrame(10.0 + stamp, 0.1) for stamp in (0, 1, 2)}
    figures = live.scene_ages(sent, {0: 10.4, 2: 12.4})
    assert figures["age_ms"] == {"p50": 500, "p95": 500, "p99": 500}
    # From 0.5 s, when the first arrives, to 2.5 s, when the next takes its place.
    assert figures["age_in_use_ms"]["p50"] == pytest.approx(1500, abs=1)
    assert figures["age_in_use_ms"]["p99"] == pytest.approx(2480, abs=1)
    assert figures["scenes_per_s"] == 0.5


def test_age_of_one_scene(live):
    figures = live.scene_ages({5: live.SentFrame(1.0, 0.0)}, {5: 1.25})
    assert figures["age_ms"]["p99"] == 250
    assert figures["age_in_use_ms"]["p50"] is None
    assert figures["scenes_per_s"] is None


def test_an_overtaken_scene_is_not_the_newest(live):
    # The scene of the second frame arrives first.
    sent = {1: live.SentFrame(0.0, 0.0), 2: live.SentFrame(1.0, 0.0)}
    figures = live.scene_ages(sent, {2: 1.5, 1: 2.5})
    assert figures["age_in_use_ms"]["p50"] == pytest.approx(1000, abs=1)
