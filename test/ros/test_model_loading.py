"""Which models the node loads; no ROS is needed to tell."""

from __future__ import annotations

import pytest
from helpers.onnx_models import write_model

from amodal_perception.errors import ModelFileError
from amodal_perception.files import sha256_of
from amodal_perception.ros.model_loading import load_pipeline, model_path
from amodal_perception.ros.parameters import NodeParameters
from amodal_perception.runtime import DEFAULT_MODEL


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "m.onnx")


def test_without_a_name_it_is_the_default_model(model):
    assert model_path(NodeParameters()) == DEFAULT_MODEL
    assert model_path(NodeParameters(model_file_path=str(model))) == model


def test_listed_models_are_loaded_and_others_are_not_even_parsed(model):
    def parameters(digest: str) -> NodeParameters:
        return NodeParameters(model_file_path=str(model), allowed_model_sha256=digest)

    listed = parameters(f"{'0' * 64},{sha256_of(model)}")
    assert load_pipeline(listed).runtime.metadata.name == "two_discs"
    model.write_bytes(b"anything else")
    with pytest.raises(ModelFileError, match=r"m\.onnx: its SHA-256 is .* does not list"):
        load_pipeline(listed)


def test_a_listed_model_that_is_gone_is_named(model):
    gone = NodeParameters(model_file_path=str(model), allowed_model_sha256=sha256_of(model))
    model.unlink()
    with pytest.raises(ModelFileError, match=r"m\.onnx: No such file"):
        load_pipeline(gone)
