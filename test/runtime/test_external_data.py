"""A model cannot make the engine read other files."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx to write the tests' models")
from onnx import TensorProto, helper  # noqa: E402

from amodal_perception.errors import ModelFileError  # noqa: E402
from amodal_perception.runtime import load_runtime  # noqa: E402


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
@pytest.mark.parametrize("node", ["Identity", "Mul"])
def test_weights_outside_the_model_file_are_refused(tmp_path, monkeypatch, location, node):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(folder)  # the engine must not look beside the process either
    for place in (folder, tmp_path):
        np.zeros(4, np.float32).tofile(place / "weights.bin")
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", location.format(folder=folder)),
        ("offset", "0"),
        ("length", "16"),
    ):
        weights.external_data.add(key=key, value=value)
    inputs = {"Identity": ["w"], "Mul": ["image", "w"]}[node]
    graph = helper.make_graph(
        [helper.make_node(node, inputs, ["boxes"])],
        "outside",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="is no usable ONNX model"):
        load_runtime(folder / "m.onnx")
