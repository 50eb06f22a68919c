"""A model that sees two discs, one behind the other, in every image; and a folder of bags."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.onnx_models import write_model
from helpers.replays import write_bags

from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import load_runtime


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "two_discs.onnx")


@pytest.fixture
def bags(tmp_path) -> Path:
    return write_bags(tmp_path / "bags")


@pytest.fixture(scope="session")
def pipeline(model) -> Pipeline:
    return Pipeline(load_runtime(model, num_threads=1))
