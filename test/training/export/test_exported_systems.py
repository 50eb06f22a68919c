"""Every system is compiled by TensorRT: at the light models' size, for two kinds of GPU.

A system that joins `MODELS` joins this list.
"""

import os

import numpy as np
import onnx
import pytest
import torch
from helpers.onnx_models import METADATA
from onnx import helper

from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine
from training.export.fp16 import to_fp16
from training.export.int8 import to_int8
from training.export.onnx_export import SingleImage, store_metadata, to_onnx
from training.models import MODELS

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
INPUT_HW = (64, 96)
SYSTEMS = [name for name in MODELS if name.endswith("_light")]
FULL_SIZE = [name for name in MODELS if not name.endswith("_light")]
FULL_SIZE_HW = (256, 320)
CAPABILITIES = (86, 89)


def export(name, folder, input_hw):
    torch.manual_seed(0)
    path = folder / "m.onnx"
    to_onnx(SingleImage(MODELS[name]().build(1)).eval(), path, input_hw)
    store_metadata(path, METADATA | {"input_hw": str(list(input_hw)), "model_id": name})
    return path


@pytest.fixture(scope="module", params=SYSTEMS)
def exported(request, tmp_path_factory):
    return export(request.param, tmp_path_factory.mktemp(request.param), INPUT_HW)


def arithmetic(path, capability):
    options = BuildOptions(backend="tensorrt-rtx", compute_capability=capability)
    return build_engine(
        path, path.with_suffix(f".{capability}.engine"), options
    ).manifest.precision


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles(exported, capability):
    found = arithmetic(exported, capability)
    assert set(found) == {"float32"}
    assert found["float32"] > 40


@pytest.mark.skipif("ENGINES" not in os.environ, reason="takes minutes; set ENGINES=1")
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_compiles_in_fewer_bits(exported, precision):
    model = onnx.load(exported)
    if precision == "fp16":
        light = to_fp16(model)
    else:
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (2, 1, *INPUT_HW, 3), np.uint8)
        light = to_int8(model, list(noise), engine="tensorrt")
    properties = {item.key: item.value for item in model.metadata_props}
    helper.set_model_props(light, properties | {"precision": precision})
    path = exported.with_name(f"{precision}.onnx")
    onnx.save(light, path)
    for capability in CAPABILITIES:
        found = arithmetic(path, capability)
        assert found[{"fp16": "float16", "int8": "int8"}[precision]] > sum(found.values()) / 2


@pytest.mark.skipif("ENGINES" not in os.environ, reason="takes minutes; set ENGINES=1")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FULL_SIZE)
def test_compiles_in_full_size(name, tmp_path):
    assert arithmetic(export(name, tmp_path, FULL_SIZE_HW), 86)["float32"] > 40
