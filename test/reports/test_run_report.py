"""The page of one run."""

from __future__ import annotations

import re

import pytest
from helpers.onnx_models import write_model
from helpers.replays import frames_of

from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.run_folder import write_run
from amodal_perception.runtime import load_runtime


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Pipeline:
    """A model that sees two discs, one behind the other, in every image."""
    path = write_model(tmp_path_factory.mktemp("model") / "two_discs.onnx")
    return Pipeline(load_runtime(path, num_threads=1))


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
