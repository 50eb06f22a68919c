"""Many bags and cameras at once: real processes, real bags, a model that sees two discs."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.bag_writing import STORE, image_message
from helpers.paths import SHARED_DATA
from helpers.replays import RUNS, SIZE_HW, replay, summary_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from amodal_perception.replay.batch_summary import pool_files
from amodal_perception.storage import amodal_coco

TRIALS = SHARED_DATA / "trials"
IMAGE = "sensor_msgs/msg/Image"


def test_one_summary_over_all_on_all_cores(tmp_path, bags, model, capsys):
    out = tmp_path / "out"
    assert replay(bags, "--model", model, "--out", out, "--workers", 2) == 1
    printed = capsys.readouterr()
    assert "torn.mcap: cannot be read" in printed.err
    summary = summary_of(out)
    assert [row["folder"] for row in summary["runs"]] == RUNS
    assert [row["frames_processed"] for row in summary["runs"]] == [4, 2, 2, 3]
    assert (summary["frames_sent"], summary["frames_dropped"]) == (11, 0)
    assert (summary["instances_mean"], summary["edges_mean"]) == (2, 1)
    assert summary["temporal_stability"]["pairs"] == 3 + 1 + 1 + 2
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
    assert replay(bags, "--model", model, "--out", alone, "--workers", 1) == 1
    assert summary_of(alone)["scenes_sha256"] == summary["scenes_sha256"]
    for name in RUNS:
        one, two = summary_of(out / name), summary_of(alone / name)
        assert one["files_sha256"] == two["files_sha256"]


def test_truth_of_every_bag_is_measured_at_once(tmp_path, bags, model):
    (bags / "torn.mcap").unlink()
    first = tmp_path / "first"
    replay(bags, "--model", model, "--out", first, "--workers", 1)
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
    assert replay(bags, "--model", model, "--out", out, "--truth", truths, "--workers", 1) == 0
    summary = summary_of(out)
    # night/one has the name of one, but none of its stamps: nothing is said about it.
    assert [row["AP"] is not None for row in summary["runs"]] == [False, True, True, True]
    assert summary["metrics"]["coco.amodal_mask.AP"] == pytest.approx(1)
    assert summary["metrics"]["matched.instances.recall"] == 1


STAMPS = st.one_of(
    st.integers(1, 2**31 - 1), st.integers(-(2**31), 0), st.sampled_from([-5, -1, 0])
)


@given(
    seconds=st.lists(STAMPS, min_size=1, max_size=3),
    nanoseconds=st.sampled_from([0, 999_999_999, 10**9, 2**32 - 1]),
)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(seconds=[10, -5, 11], nanoseconds=0)
def test_no_stamp_ends_a_batch(tmp_path, bags, model, seconds, nanoseconds):
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    messages = []
    for sec in seconds:
        message = image_message(np.zeros((*SIZE_HW, 3), np.uint8), 10**9)
        stamp = replace(message.header.stamp, sec=sec, nanosec=nanoseconds)
        messages.append(replace(message, header=replace(message.header, stamp=stamp)))
    writer = Writer(folder / "bad", version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        connection = writer.add_connection("/eye", IMAGE, typestore=STORE)
        for i, message in enumerate(messages):
            writer.write(connection, i + 1, STORE.serialize_cdr(message, IMAGE))
    out = folder / "out"
    code = replay(
        folder / "bad", bags / "one", "--model", model, "--out", out, "--workers", 1, "--no-video"
    )
    summary = summary_of(out)
    assert "one" in {row["folder"] for row in summary["runs"]}
    good = [sec for sec in seconds if sec * 10**9 + nanoseconds >= 0 and nanoseconds < 10**9]
    assert code == bool(summary["failed"]) == (not good)
    if good:
        lost = len(seconds) - len(good)
        assert summary["frames_processed"] == 3 + len(good)
        assert summary["frames_undecodable"] == lost
        assert sum(summary["undecodable_by_cause"].values()) == lost


@pytest.mark.skipif(not TRIALS.exists(), reason=f"{TRIALS} is not there")
def test_reported_stamps(tmp_path, model):
    names = [TRIALS / "stamp_negative" / name for name in ("stamp0", "stamp_neg", "uni")]
    assert replay(*names, "--model", model, "--out", tmp_path / "out", "--workers", 1) == 0
    summary = summary_of(tmp_path / "out")
    assert [row["folder"] for row in summary["runs"]] == ["stamp0", "stamp_neg", "uni"]
    assert summary["undecodable_by_cause"] == {"stamp": 1}


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


def test_pooled_files_keep_images_apart(tmp_path, bags, model):
    replay(bags / "one", "--model", model, "--out", tmp_path / "out")
    part = amodal_coco.read(tmp_path / "out" / "predictions.json")
    both = pool_files([part, part]).check()
    assert len(both.images) == 2 * len(part.images)
    assert len({row["file_name"] for row in both.images.values()}) == len(both.images)
    assert len(both.annotations) == 2 * len(part.annotations)
    for old, new in zip([*part.images] * 2, sorted(both.images)):
        np.testing.assert_array_equal(part.occlusions_of(old), both.occlusions_of(new))
        assert len(part.annotations_of(old)) == len(both.annotations_of(new))
