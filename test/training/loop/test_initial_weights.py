from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from amodal_perception.errors import ConfigError, ModelFileError
from training.loop.initial_weights import read_onnx, start_from


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def write_onnx(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3])
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    node = helper.make_node("Identity", ["image"], ["out"])
    graph = helper.make_graph([node], "g", [image], [image], initializers)
    graph.output[0].name = "out"
    onnx.save(helper.make_model(graph), path)
    return path


def test_exported_weights_come_back_by_name(tmp_path, capsys):
    source, target = network(), network()
    tensors = {f"model.{k}": v.numpy() for k, v in source.state_dict().items() if v.ndim}
    path = write_onnx(tmp_path / "m.onnx", {**tensors, "val_7": np.zeros(3, np.float32)})
    start_from(target, path)
    for name, value in source.state_dict().items():
        assert target.state_dict()[name].equal(value), name
    assert capsys.readouterr().err == f"8 tensors taken from {path}\n"


def test_layer_of_another_size_stays_as_it_is_and_is_named(tmp_path, capsys):
    source, target = network(), network()
    source[2] = nn.Conv2d(4, 5, 1)  # of more classes
    own = target[2].weight.detach().clone()
    save_file(source.state_dict(), tmp_path / "ema.safetensors")
    start_from(target, tmp_path)
    assert target[0].weight.equal(source[0].weight)
    assert target[2].weight.equal(own)
    assert "2 start at random: 2.weight, 2.bias" in capsys.readouterr().err


def test_folded_normalisation_is_refused(tmp_path):
    tensors = {
        "model.0.weight": torch.zeros(4, 3, 3, 3).numpy(),
        "model.0.weight_bias": np.zeros(4),
    }
    path = write_onnx(tmp_path / "folded.onnx", tensors)
    with pytest.raises(ModelFileError, match=r"folded\.onnx: its normalisation is folded"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff" * 9, "cannot be read as ONNX"), (None, "cannot be read")]
)
def test_file_that_is_no_model(tmp_path, content, message):
    path = tmp_path / "broken.onnx"
    if content:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        read_onnx(path)


def test_file_of_others_and_other_networks_are_refused(tmp_path):
    unnamed = write_onnx(tmp_path / "unnamed.onnx", {"w": np.zeros(3, np.float32)})
    with pytest.raises(ModelFileError, match="holds no named weights"):
        read_onnx(unnamed)
    foreign = write_onnx(tmp_path / "foreign.onnx", {"model.x": np.zeros(3, np.float32)})
    with pytest.raises(ConfigError, match="another kind of network; no tensor fits"):
        start_from(network(), foreign)
