"""The folder of one run: every file, all of it or nothing."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.replays import RUN, SIZE_HW, STAMPS_NS, frames_of

from amodal_perception.commands.replay import print_summary
from amodal_perception.replay.run_folder import write_run
from amodal_perception.structures import Instances


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


def test_film_shows_every_frame_also_those_that_were_dropped(tmp_path, pipeline):
    frames = frames_of(pipeline)
    frames[1] = replace(frames[1], scene=None)
    write_run(tmp_path / "out", frames, model_id="m")
    film = cv2.VideoCapture(str(tmp_path / "out" / "video.webm"))
    means = [film.read()[1].mean() for _ in range(3)]
    assert not film.read()[0]
    assert means[1] < 0.5 * min(means[0], means[2])


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
