from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.bag_writing import compressed_message, image_message, write_bag
from helpers.onnx_models import write_model
from helpers.paths import SHARED_DATA
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.commands.replay import print_summary
from amodal_perception.errors import BagError, DatasetError
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.replay import read_stamped_truth, replay_bag
from amodal_perception.replay.run_folder import ReplayedFrame, RunOptions, write_run
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.scene_bags import read_scenes
from amodal_perception.structures import Frame, Instances

CAMERA_BAG = SHARED_DATA / "camera_bag"
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


def test_every_frame_has_a_line_of_figures(tmp_path, pipeline):
    frames = frames_of(pipeline)
    frames[1] = replace(frames[1], scene=None, latency_ms=None)
    frames[2] = replace(frames[2], age_ms=17.25)
    write_run(tmp_path / "out", frames, model_id="m")
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stamp_ns"] for row in rows] == [str(stamp) for stamp in STAMPS_NS[:3]]
    assert [row["dropped"] for row in rows] == ["0", "1", "0"]
    assert [row["instances"] for row in rows] == ["2", "", "2"]
    assert [row["latency_ms"] for row in rows] == ["10.0000", "", "12.0000"]
    assert [row["age_ms"] for row in rows] == ["", "", "17.2500"]
    # The model sees the same discs in all images.
    assert [row["objects_kept"] for row in rows] == ["", "", "2"]
    assert [row["amodal_iou"] for row in rows] == ["", "", "1.0000"]
    assert [row["edges_kept"] for row in rows] == ["", "", "1"]
    assert float(rows[0]["engine_ms"]) > 0
    assert rows[1]["engine_ms"] == ""


def test_predictions_grow_to_the_file_that_is_written_at_once(tmp_path, bag, pipeline):
    replay_bag(bag, pipeline, tmp_path / "out")
    path = tmp_path / "out" / "predictions.json"
    content = json.loads(path.read_text())
    amodal_coco.write(tmp_path / "at_once.json", **content)
    assert (tmp_path / "at_once.json").read_bytes() == path.read_bytes()


def test_film_shows_every_frame_also_those_that_were_dropped(tmp_path, pipeline):
    frames = frames_of(pipeline)
    frames[1] = replace(frames[1], scene=None)
    write_run(tmp_path / "out", frames, model_id="m")
    film = cv2.VideoCapture(str(tmp_path / "out" / "video.webm"))
    means = [film.read()[1].mean() for _ in range(3)]
    assert not film.read()[0]
    assert means[1] < 0.5 * min(means[0], means[2])


def test_pictures_can_be_left_out(tmp_path, bag, pipeline):
    out = tmp_path / "out"
    replay_bag(bag, pipeline, out)
    summary = replay_bag(bag, pipeline, out, options=RunOptions(overlays=False, video=False))
    assert {path.name for path in out.iterdir()} == RUN - {"overlays", "video.webm"}
    assert "video.webm" not in summary["files_sha256"]
    assert "<video" not in (out / "report.html").read_text()


def test_flicker_is_told_beside_that_of_truth(tmp_path, bag, pipeline, truth_path):
    summary = replay_bag(bag, pipeline, tmp_path / "out", truth_path=truth_path)
    assert summary["flicker"]["pairs"] == 3
    assert summary["flicker_truth"]["pairs"] == 2
    for figures in (summary["flicker"], summary["flicker_truth"]):
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


def test_hash_depends_on_what_was_seen(tmp_path, pipeline):
    frames = frames_of(pipeline, 2)
    digests = {write_run(tmp_path / "a", frames, model_id="m")["scenes_sha256"]}
    scene = frames[1].scene
    first, *rest = scene.instances.visible_crops
    rows, columns = np.nonzero(first)
    other_first = first.copy()
    other_first[rows[0], columns[0]] = False
    instances = replace(scene.instances, visible_crops=(other_first, *rest))
    changed = replace(scene, instances=instances)
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
    print_summary(summary)
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
    print_summary(summary)
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
