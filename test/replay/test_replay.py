from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bag_writing import compressed_message, image_message, write_bag
from helpers.paths import SHARED_DATA
from helpers.replays import RUN, SIZE_HW, STAMPS_NS, frames_of
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.commands.replay import print_summary
from amodal_perception.errors import BagError, DatasetError
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.replay import read_stamped_truth, replay_bag
from amodal_perception.replay.run_folder import RunOptions, write_run
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.bag_depth import NO_DEPTH, DepthOptions
from amodal_perception.storage.scene_bags import read_scenes

CAMERA_BAG = SHARED_DATA / "camera_bag"


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8) for _ in STAMPS_NS]
    messages = [
        compressed_message(cv2.imencode(".jpg", image)[1].reshape(-1), stamp_ns, "jpeg")
        for image, stamp_ns in zip(images, STAMPS_NS)
    ]
    return write_bag(tmp_path_factory.mktemp("bags") / "bag", {"/image/compressed": messages})


@pytest.fixture
def truth_path(tmp_path, bag, pipeline) -> Path:
    """What the model sees, called truth, of all frames but the first."""
    replay_bag(bag, pipeline, tmp_path / "first")
    content = json.loads((tmp_path / "first" / "predictions.json").read_text())
    first = content["images"].pop(0)["id"]
    for rows in ("annotations", "occlusions"):
        content[rows] = [row for row in content[rows] if row["image_id"] != first]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


def test_replay_leaves_a_whole_run(tmp_path, bag, pipeline):
    out = tmp_path / "deep" / "out"
    summary = replay_bag(bag, pipeline, out)
    assert {path.name for path in out.iterdir()} == RUN
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["model_id"] == pipeline.runtime.metadata.model_id
    sent, processed, dropped = (
        summary[f"frames_{what}"] for what in ("sent", "processed", "dropped")
    )
    assert (sent, processed, dropped) == (4, 4, 0)
    assert (summary["instances_mean"], summary["edges_mean"]) == (2, 1)
    assert set(summary["stages_ms"]) == {"preprocess", "engine", "postprocess", "ordering"}
    for figures in (summary["latency_ms"], *summary["stages_ms"].values()):
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
    assert "metrics" not in summary

    scenes = list(read_scenes(out / "scenes.mcap"))
    assert [scene.stamp_ns for scene in scenes] == STAMPS_NS
    assert all(len(scene.instances) == 2 for scene in scenes)
    predictions = amodal_coco.read(out / "predictions.json")
    assert [row["stamp_ns"] for row in predictions.images.values()] == STAMPS_NS
    assert len(predictions.annotations) == 8
    assert len(predictions.occlusions) == 4
    overlays = sorted((out / "overlays").iterdir())
    assert [path.name for path in overlays] == [f"{i:06d}.png" for i in range(4)]
    assert cv2.imread(str(overlays[0])).shape == (*SIZE_HW, 3)


def test_replay_is_deterministic(tmp_path, bag, pipeline):
    one, two = (replay_bag(bag, pipeline, tmp_path / name) for name in ("one", "two"))
    assert one["scenes_sha256"] == two["scenes_sha256"]
    assert one["files_sha256"] == two["files_sha256"]
    for name in ("scenes.mcap", "predictions.json", "video.webm", "overlays/000003.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_threads_and_kind_of_storage_change_no_byte(tmp_path):
    rng = np.random.default_rng(2)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (9, 9), 0)
    camera = [image_message(np.roll(noise, 7 * i, axis=1), STAMPS_NS[i]) for i in range(2)]
    results = []
    for threads, storage, compression in (
        (1, StoragePlugin.MCAP, CompressionMode.NONE),
        (3, StoragePlugin.SQLITE3, CompressionMode.FILE),
    ):
        bag = write_bag(tmp_path / f"bag{threads}", {"/image": camera}, storage, compression)
        trained = Pipeline(load_runtime(DEFAULT_MODEL, num_threads=threads))
        summary = replay_bag(bag, trained, tmp_path / f"out{threads}")
        results.append((summary["scenes_sha256"], summary["files_sha256"]))
    assert results[0] == results[1]
    assert set(results[0][1]) == {"scenes.mcap", "predictions.json", "video.webm"}


def test_images_that_are_none_count_as_dropped(tmp_path, pipeline, caplog):
    good = cv2.imencode(".png", np.zeros((*SIZE_HW, 3), np.uint8))[1].reshape(-1)
    messages = [compressed_message(data, s) for data, s in zip((good, good[:40], good), STAMPS_NS)]
    bag = write_bag(tmp_path / "bag", {"/image/compressed": messages})
    summary = replay_bag(bag, pipeline, tmp_path / "out")
    assert (summary["frames_sent"], summary["frames_processed"]) == (3, 2)
    assert (summary["frames_dropped"], summary["frames_undecodable"]) == (1, 1)
    assert "left out" in caplog.text


def test_pictures_can_be_left_out(tmp_path, bag, pipeline):
    out = tmp_path / "out"
    replay_bag(bag, pipeline, out)
    summary = replay_bag(bag, pipeline, out, options=RunOptions(overlays=False, video=False))
    assert {path.name for path in out.iterdir()} == RUN - {"overlays", "video.webm"}
    assert "video.webm" not in summary["files_sha256"]
    assert "<video" not in (out / "report.html").read_text()


def test_temporal_stability_stands_beside_that_of_truth(tmp_path, bag, pipeline, truth_path):
    summary = replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    assert summary["temporal_stability"]["pairs"] == 3
    assert summary["temporal_stability_truth"]["pairs"] == 2
    for figures in (summary["temporal_stability"], summary["temporal_stability_truth"]):
        assert (figures["objects_kept"], figures["amodal_iou"], figures["edges_kept"]) == (1, 1, 1)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "From one frame to the next" in html
    assert "<th>truth</th>" in html


def test_every_frame_with_truth_tells_how_it_agrees(tmp_path, bag, pipeline, truth_path):
    replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["true_objects"] for row in rows] == ["", "2", "2", "2"]
    assert [row["true_found"] for row in rows] == ["", "2", "2", "2"]
    assert {row["panoptic_quality"] for row in rows[1:]} == {"1.0000"}
    assert "<h3>Every frame</h3>" in (tmp_path / "out" / "report.html").read_text()


def test_truth_of_other_cameras_is_left_out(tmp_path, bag, pipeline, truth_path):
    content = json.loads(truth_path.read_text())
    content["images"][0]["topic"] = "/other"
    content["images"][1]["topic"] = "/image/compressed"
    truth_path.write_text(json.dumps(content))
    assert len(read_stamped_truth(truth_path).images) == 3
    assert len(read_stamped_truth(truth_path, "/image/compressed").images) == 2
    replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Quality against truth <small>2 frames" in html


def test_truth_is_matched_by_stamp(tmp_path, bag, pipeline, truth_path, capsys):
    summary = replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    metrics = summary["metrics"]
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert metrics["order.end_to_end.F1"] == 1
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Quality against truth <small>3 frames" in html
    print_summary(summary)
    printed = capsys.readouterr().out
    assert re.search(r"AP of amodal masks, scene +1\.000", printed)
    assert re.search(r"engine( +\d+\.\d\d){3}", printed)


def test_truth_without_stamps_is_refused(tmp_path, bag, pipeline, truth_path):
    content = json.loads(truth_path.read_text())
    del content["images"][1]["stamp_ns"]
    truth_path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"truth\.json: image 3 has no 'stamp_ns'"):
        replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    assert not (tmp_path / "out").exists()


def test_missing_bag_leaves_nothing(tmp_path, pipeline):
    with pytest.raises(BagError, match="no such bag"):
        replay_bag(tmp_path / "nothing", pipeline, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not CAMERA_BAG.exists(), reason=f"{CAMERA_BAG} is not there")
def test_real_camera_bag(tmp_path, pipeline, caplog):
    summary = replay_bag(CAMERA_BAG, pipeline, tmp_path / "out")
    assert summary["frames_processed"] == 2
    scenes = list(read_scenes(tmp_path / "out" / "scenes.mcap"))
    assert [scene.stamp_ns for scene in scenes] == [8_297_777_777, 8_331_088_888]
    assert all(scene.instances.size_hw == (480, 640) for scene in scenes)
    assert "12 of 13 parts are missing" in caplog.text


def test_truth_of_other_frames_is_refused(tmp_path, pipeline, truth_path):
    frames = frames_of(pipeline, 1)
    with pytest.raises(DatasetError, match="holds none of the 1 stamps"):
        write_run(tmp_path / "out", frames, model_id="m", truth=read_stamped_truth(truth_path))
    assert not (tmp_path / "out").exists()


def test_objects_are_ordered_by_depth_where_the_bag_has_it(tmp_path, pipeline):
    """The front disc is the farther one by depth, which turns the edge."""
    scene = frames_of(pipeline, 1)[0].scene
    front = scene.instances.visible[scene.graph.edges[0, 0]]
    millimetres = np.where(front, 900, 700).astype(np.uint16)
    images = [image_message(np.zeros((*SIZE_HW, 3), np.uint8), stamp) for stamp in STAMPS_NS]
    depths = [image_message(millimetres, stamp + 10**7, "16UC1") for stamp in STAMPS_NS[:2]]
    bag = write_bag(tmp_path / "bag", {"/image": images, "/depth": depths})

    def edges(out: str, **options):
        summary = replay_bag(bag, pipeline, tmp_path / out, topic="/image", **options)
        graphs = [s.graph for s in read_scenes(tmp_path / out / "scenes.mcap")]
        return summary.get("depth_topic"), [graph.edges.tolist() for graph in graphs]

    by_masks, by_depth = [[0, 1]], [[1, 0]]
    assert edges("with") == ("/depth", [by_depth] * 2 + [by_masks] * 2)
    assert edges("without", depth=DepthOptions(NO_DEPTH)) == (None, [by_masks] * 4)
