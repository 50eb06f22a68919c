"""Files of truth and predictions evaluated from Python."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.scenes import amodal_file, random_files, write_file

from amodal_perception.errors import DatasetError
from amodal_perception.reports.evaluation_folder import evaluate_files, headline_text


@pytest.fixture
def files(tmp_path):
    truth, predictions = random_files(np.random.default_rng(3))
    return (
        write_file(tmp_path / "truth.json", truth),
        write_file(tmp_path / "predictions.json", predictions),
        tmp_path / "out",
    )


def test_evaluate_files_returns_what_it_writes(files, capsys):
    evaluation = evaluate_files(*files, replicates=5)
    assert json.loads((files[2] / "metrics.json").read_text()) == {
        "predictions": "unstated",
        **evaluation.metrics,
    }
    assert capsys.readouterr().out == ""
    assert "coco.amodal_mask.AP50" in headline_text(evaluation, files[2])


def test_evaluate_files_refuses_no_predictions(files):
    write_file(files[1], amodal_file(name="p.json"))
    with pytest.raises(DatasetError, match=r"predictions\.json: holds no predictions"):
        evaluate_files(*files)
    assert not files[2].exists()
