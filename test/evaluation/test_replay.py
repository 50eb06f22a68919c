from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from contract_model import write_model
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from amodal_perception import amodal_coco
from amodal_perception.bags import read_scenes
from amodal_perception.errors import BagError, DatasetError
from amodal_perception.evaluation.replay import read_stamped_truth, replay_bag
from amodal_perception.evaluation.run import ReplayedFrame, print_table, write_run
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import load_runtime
from amodal_perception.structures import Frame, Instances

CAMERA_BAG = Path(__file__).parents[3] / "shared" / "data" / "camera_bag"
SIZE_HW = (96, 128)
STAMPS_NS = [10**9 * (5 + i) + 7 for i in range(4)]
RUN = {
    "summary.json",
    "report.html",
    "frames.csv",
    "predictions.json",
    "scenes.mcap",
    "video.webm",
    "overlays",
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    """A model that sees two discs, one behind the other, in every image."""
    path = write_model(tmp_path_factory.mktemp("model") / "two_discs.onnx")
    return Pipeline(load_runtime(path, num_threads=1))


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    msgtype = "sensor_msgs/msg/CompressedImage"
    folder = tmp_path_factory.mktemp("bags") / "bag"
    rng = np.random.default_rng(0)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/image/compressed", msgtype, typestore=store)
        for stamp_ns in STAMPS_NS:
            image = rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
            stamp = types["builtin_interfaces/msg/Time"](
                sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
            )
            message = types[msgtype](
                header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera"),
                format="jpeg",
                data=cv2.imencode(".jpg", image)[1].reshape(-1),
            )
            writer.write(connection, stamp_ns, store.serialize_cdr(message, msgtype))
    return folder


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


def frames_of(pipeline: Pipeline, count: int = 3) -> list[ReplayedFrame]:
    rng = np.random.default_rng(0)
    frames = []
    for i in range(count):
        frame = Frame(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8), STAMPS_NS[i], "camera")
        frames.append(ReplayedFrame(frame, pipeline(frame), 10.0 + i))
    return frames


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


def test_hash_depends_on_what_was_seen(tmp_path, pipeline):
    frames = frames_of(pipeline, 2)
    digests = {write_run(tmp_path / "a", frames, model_id="m")["scenes_sha256"]}
    scene = frames[1].scene
    visible = scene.instances.visible.copy()
    visible[0, 48, 64] = False
    changed = replace(scene, instances=replace(scene.instances, visible=visible))
    for other in (changed, replace(scene, stamp_ns=1), replace(scene, frame_id="left")):
        run = [frames[0], replace(frames[1], scene=other)]
        digests.add(write_run(tmp_path / "a", run, model_id="m")["scenes_sha256"])
    assert len(digests) == 4


def test_truth_is_matched_by_stamp(tmp_path, bag, pipeline, truth_path, capsys):
    summary = replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    metrics = summary["metrics"]
    assert metrics["coco.amodal_mask.AP"] == pytest.approx(1)
    assert metrics["order.end_to_end.F1"] == 1
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Quality against truth <small>3 frames" in html
    print_table(summary)
    printed = capsys.readouterr().out
    assert re.search(r"AP of amodal masks +1\.000", printed)
    assert re.search(r"engine( +\d+\.\d\d){3}", printed)


def test_truth_of_other_frames_is_refused(tmp_path, pipeline, truth_path):
    frames = frames_of(pipeline, 1)
    with pytest.raises(DatasetError, match="holds none of the 1 stamps"):
        write_run(tmp_path / "out", frames, model_id="m", truth=read_stamped_truth(truth_path))
    assert not (tmp_path / "out").exists()


def test_truth_without_stamps_is_refused(tmp_path, bag, pipeline, truth_path):
    content = json.loads(truth_path.read_text())
    del content["images"][1]["stamp_ns"]
    truth_path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"truth\.json: image 3 has no 'stamp_ns'"):
        replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    assert not (tmp_path / "out").exists()


def test_dropped_and_empty_frames(tmp_path, pipeline, capsys):
    frames = frames_of(pipeline)
    frames[0] = replace(frames[0], scene=None, latency_ms=None)
    nothing = replace(
        frames[1].scene,
        instances=Instances.empty(SIZE_HW),
        graph=replace(
            frames[1].scene.graph,
            **{
                name: getattr(frames[1].scene.graph, name)[:0]
                for name in ("edges", "confidence", "overlap_px", "hidden_fraction")
            },
            removal_order=np.zeros(0, np.int32),
        ),
    )
    frames[1] = replace(frames[1], scene=nothing)
    summary = write_run(tmp_path / "out", frames, model_id="m")
    assert (summary["frames_processed"], summary["frames_dropped"]) == (2, 1)
    assert summary["instances_mean"] == 1
    assert summary["latency_ms"]["p50"] == 11.5
    html = (tmp_path / "out" / "report.html").read_text()
    assert "1 dropped" in html
    assert "no objects found" in html
    assert not (tmp_path / "out" / "overlays" / "000000.png").exists()
    assert (tmp_path / "out" / "overlays" / "000002.png").exists()


def test_nothing_processed(tmp_path, pipeline, capsys):
    frames = [replace(frame, scene=None, latency_ms=None) for frame in frames_of(pipeline)]
    summary = write_run(tmp_path / "out", frames, model_id="m")
    assert (summary["frames_processed"], summary["frames_dropped"]) == (0, 3)
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert "No frame was processed" in (tmp_path / "out" / "report.html").read_text()
    print_table(summary)
    assert re.search(r"latency +- +- +-", capsys.readouterr().out)


def test_report_needs_no_other_file(tmp_path, pipeline):
    write_run(tmp_path / "out", frames_of(pipeline), model_id="<m>")
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 6
    assert "&lt;m&gt;" in html
    assert "Hidden pixels are guesses" in html
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "http" not in html


def test_long_runs_show_an_even_choice_of_frames(tmp_path, pipeline):
    (frame,) = frames_of(pipeline, 1)
    write_run(tmp_path / "out", [frame] * 40, model_id="m")
    shown = re.findall(r"<h3>Frame (\d+) ", (tmp_path / "out" / "report.html").read_text())
    assert [int(index) for index in shown] == list(range(0, 40, 4))


def test_an_earlier_run_is_replaced_and_nothing_else(tmp_path, pipeline):
    out = tmp_path / "out"
    write_run(out, frames_of(pipeline, 3), model_id="m")
    (out / "notes.txt").write_text("mine")
    (out / "overlays" / "mine.png").write_text("mine")
    write_run(out, frames_of(pipeline, 1), model_id="m")
    assert {path.name for path in out.iterdir()} == RUN | {"notes.txt"}
    assert {path.name for path in (out / "overlays").iterdir()} == {"000000.png", "mine.png"}
    assert json.loads((out / "summary.json").read_text())["frames_sent"] == 1


def test_failure_keeps_the_earlier_run(tmp_path, pipeline):
    out = tmp_path / "out"
    write_run(out, frames_of(pipeline, 2), model_id="m")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def broken():
        yield from frames_of(pipeline, 1)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_run(out, broken(), model_id="m")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(OSError, match=r"No space left.*new"):
        write_run(tmp_path / "new", broken(), model_id="m")
    assert not (tmp_path / "new").exists()


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
