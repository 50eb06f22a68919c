"""Whatever is wrong with an engine is told before anything of it is executed."""

import json
import re
from dataclasses import replace

import pytest

from amodal_perception.errors import GpuUnavailableError, ModelFileError
from amodal_perception.runtime import load_runtime
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.cuda import Gpu
from amodal_perception.runtime.tensorrt.manifest import (
    check_gpu,
    check_version,
    manifest_path,
    read,
    read_trusted,
)

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


def changed(engine, **values):
    sidecar = manifest_path(engine)
    content = json.loads(sidecar.read_text())
    content.update({key: value for key, value in values.items() if value is not None})
    for key in [key for key, value in values.items() if value is None]:
        del content[key]
    sidecar.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:100], lambda b: b + b"\0"])
def test_damaged_engine(engine, damage):
    engine.write_bytes(damage(engine.read_bytes()))
    with pytest.raises(ModelFileError, match=r"is damaged.*; rebuild it: amodal build-engine .*"):
        load_runtime(engine)


def test_engine_of_another_manifest(engine, tmp_path):
    other = tmp_path / "other.engine"
    other.write_bytes(engine.read_bytes()[::-1])
    manifest_path(other).write_bytes(manifest_path(engine).read_bytes())
    with pytest.raises(ModelFileError, match="not the engine of its manifest"):
        load_runtime(other)


def test_no_engine_no_manifest(engine):
    with pytest.raises(ModelFileError, match="no such model file"):
        load_runtime(engine.with_name("gone.engine"))
    manifest_path(engine).unlink()
    with pytest.raises(ModelFileError, match=r"has no manifest discs\.engine\.json beside it; b"):
        load_runtime(engine)


def test_stale_engine(engine, model):
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(
        ModelFileError, match=r"is stale, .*discs\.onnx has changed since; rebuild"
    ):
        load_runtime(engine)
    model.unlink()  # on the robot the ONNX file need not be
    read_trusted(engine)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format_version": 1}, "is no manifest of format 2"),
        ({"backend": None}, "missing or unknown: backend"),
        ({"plugin": "x.so"}, "missing or unknown: plugin"),
        ({"compute_capability": "86"}, "compute_capability is no int"),
        ({"properties": {"format_version": 1}}, "properties are no texts"),
        ({"inputs": {"image": 3}}, "is damaged"),
        ({"inputs": {"x": {"shape": [1], "dtype": "uint8"}}}, r"inputs are \['x'\], expected one"),
        ({"properties": {}}, "has no format_version"),
    ],
)
def test_damaged_manifest(engine, values, message):
    changed(engine, **values)
    with pytest.raises(ModelFileError, match=message):
        load_runtime(engine)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_manifest_that_is_none(engine, text):
    manifest_path(engine).write_text(text)
    with pytest.raises(ModelFileError, match="is no manifest"):
        load_runtime(engine)


def test_other_version_and_other_gpu(engine):
    manifest = read(engine)
    check_version(engine, manifest, manifest.backend_version)
    with pytest.raises(ModelFileError, match=r"built with tensorrt-rtx .* but 9\.9 is installed"):
        check_version(engine, manifest, "9.9")
    gpu = Gpu(0, "GPU-0", "NVIDIA X", 86, 28, 12 << 30, False)
    assert check_gpu(engine, manifest, gpu) == ""
    built_there = replace(manifest, device_name="NVIDIA X", multiprocessors=28)
    assert check_gpu(engine, built_there, gpu) == ""
    slow = check_gpu(engine, built_there, replace(gpu, multiprocessors=14))
    assert "built on NVIDIA X (28 multiprocessors), and may be slow on NVIDIA X (14); reb" in slow
    with pytest.raises(ModelFileError, match=r"capability 86, but NVIDIA X has 89; rebuild"):
        check_gpu(engine, manifest, replace(gpu, compute_capability=89))


def test_version_is_compared_before_the_engine_is_read(engine):
    changed(engine, backend_version="1.0")
    with pytest.raises(ModelFileError, match=r"was built with tensorrt-rtx 1\.0, but"):
        load_runtime(engine)


def test_a_good_engine_without_a_gpu(engine):
    if not gpu.problem():
        pytest.skip("a GPU is here")
    message = rf"needs an NVIDIA GPU, and {re.escape(gpu.problem())}; .*discs\.onnx runs without"
    with pytest.raises(GpuUnavailableError, match=message):
        load_runtime(engine)


def test_the_same_manifest_comes_back(engine):
    manifest = replace(read(engine), layers={"a": "float16"}, precision={"float16": 1})
    manifests.write(engine, manifest)
    assert read(engine) == manifest
