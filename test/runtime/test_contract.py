"""What a model must offer, and how what breaks it is named."""

import numpy as np
import pytest
from helpers.onnx_models import CELLS, INPUT_HW, METADATA, SLOTS, two_discs, write_constant_model
from onnx import TensorProto

from amodal_perception.errors import ModelFileError
from amodal_perception.runtime import load_runtime


def test_a_model_with_an_occluder_layer_is_within_the_contract(tmp_path):
    values = two_discs() | {"occluder": np.full((SLOTS, CELLS, CELLS), 0.1, np.float32)}
    runtime = load_runtime(write_constant_model(tmp_path / "m.onnx", values=values))
    assert runtime(np.zeros((1, *INPUT_HW, 3), np.uint8)).occluder.shape == (SLOTS, CELLS, CELLS)


def _without(name):
    values = two_discs()
    del values[name]
    return {"values": values}


def _with(name, value):
    return {"values": two_discs() | {name: value}}


def _metadata(**changes):
    return {"metadata": {k: v for k, v in (METADATA | changes).items() if v is not None}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("visible"), "has no output 'visible'; it has"),
        (
            _with("boxes", np.zeros((SLOTS, 5), np.float32)),
            r"output 'boxes' is float32 \[32, 5\], expected float32 \[32, 4\]",
        ),
        (
            _with("amodal", np.zeros((SLOTS, CELLS, CELLS + 1), np.float32)),
            r"output 'amodal' is float32 \[32, 28, 29\], expected float32 \[32, 28, 28\]",
        ),
        (
            _with("labels", np.zeros(SLOTS, np.float32)),
            r"output 'labels' is float32 \[32\], expected int32 or int64 \[32\]",
        ),
        (
            _with("occluder", np.zeros((SLOTS, 1, CELLS, CELLS), np.float32)),
            r"output 'occluder' is float32 \[32, 1, 28, 28\]",
        ),
        ({"input_name": "x"}, r"inputs are \['x'\], expected one, 'image'"),
        (
            {"input_type": TensorProto.FLOAT},
            r"input 'image' is float32 \[1, 288, 384, 3\], expected uint8",
        ),
        ({"input_shape": (1, "H", "W", 3)}, r"input 'image' is uint8 \[1, 'H', 'W', 3\]"),
        ({"metadata": {}}, "has no format_version, expected '1'"),
        (_metadata(format_version="2"), "has format_version '2', expected '1'"),
        (_metadata(class_names=None), "metadata has no 'class_names'"),
        (_metadata(class_names="[]"), "metadata 'class_names' is empty"),
        (_metadata(input_hw="[288"), r"metadata 'input_hw' is '\[288', expected a JSON list"),
        (_metadata(input_hw='["a", "b"]'), r"metadata 'input_hw'"),
        (_metadata(metrics="oops"), "metadata 'metrics'"),
    ],
)
def test_what_breaks_the_contract_is_named(tmp_path, change, message):
    path = write_constant_model(tmp_path / "broken.onnx", **change)
    with pytest.raises(ModelFileError, match=rf"broken\.onnx: .*{message}"):
        load_runtime(path)
