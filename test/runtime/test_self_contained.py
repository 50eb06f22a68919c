"""ONNX Runtime would follow references to other files, of models that are otherwise good, too."""

import numpy as np
import onnx
import pytest
from helpers.onnx_models import write_model
from onnx import TensorProto, helper

from amodal_perception.errors import ModelFileError
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.runtime.self_contained import check_self_contained


def elsewhere(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[32, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
def test_a_good_model_with_weights_elsewhere_is_refused(tmp_path, monkeypatch, location):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for place in (folder, tmp_path):
        np.zeros((32, 4), np.float32).tofile(place / "weights.bin")
    path = write_model(folder / "m.onnx")
    load_runtime(path)  # good as it is
    model = onnx.load(path)
    index = [t.name for t in model.graph.initializer].index("fixed_boxes")
    moved = elsewhere("fixed_boxes", location.format(folder=folder))
    model.graph.initializer[index].CopyFrom(moved)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="its weights are in other files"):
        load_runtime(path)


def attribute(**value):
    return helper.make_node("Constant", [], ["c"], **value)


def in_node(tensor):
    return helper.make_graph([attribute(value=tensor)], "g", [], [])


@pytest.mark.parametrize(
    "place",
    [
        lambda model, tensor: model.graph.node.append(attribute(value=tensor)),
        lambda model, tensor: model.graph.node.append(attribute(then_branch=in_node(tensor))),
        lambda model, tensor: model.graph.sparse_initializer.add().values.CopyFrom(tensor),
        lambda model, tensor: model.functions.add().node.append(attribute(value=tensor)),
        lambda model, tensor: model.training_info.add().algorithm.initializer.append(tensor),
    ],
)
def test_wherever_the_tensor_is(tmp_path, place):
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    check_self_contained(tmp_path / "m.onnx", model.SerializeToString())
    place(model, elsewhere("t", "weights.bin"))
    with pytest.raises(ModelFileError, match="its weights are in other files"):
        check_self_contained(tmp_path / "m.onnx", model.SerializeToString())


def test_the_default_model_is_all_in_one_file():
    check_self_contained(DEFAULT_MODEL, DEFAULT_MODEL.read_bytes())


@pytest.mark.parametrize("content", [b"\xff" * 40, b"\x3a\xff\xff\x01abc", b"\x0b\x0c", b"\x08"])
def test_what_is_no_protocol_buffer_is_refused(tmp_path, content):
    with pytest.raises(ModelFileError, match=r"m\.onnx: is no usable ONNX model"):
        check_self_contained(tmp_path / "m.onnx", content)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin"])
@pytest.mark.parametrize("node", ["Identity", "Mul"])
def test_weights_elsewhere_are_refused_before_the_contract_is_checked(
    tmp_path, monkeypatch, location, node
):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.chdir(folder)  # the engine must not look beside the process either
    for place in (folder, tmp_path):
        np.zeros((32, 4), np.float32).tofile(place / "weights.bin")
    weights = elsewhere("w", location.format(folder=folder))
    inputs = {"Identity": ["w"], "Mul": ["image", "w"]}[node]
    graph = helper.make_graph(
        [helper.make_node(node, inputs, ["boxes"])],
        "outside",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [32, 4])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [32, 4])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="is no usable ONNX model"):
        load_runtime(folder / "m.onnx")
