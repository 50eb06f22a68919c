"""Engines are built for real by TensorRT for RTX, which needs no GPU for it."""

import json

import numpy as np
import onnx
import pytest
from helpers.onnx_models import write_model

from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.files import sha256_of
from amodal_perception.runtime import DEFAULT_MODEL
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
RTX_86 = BuildOptions(backend="tensorrt-rtx", compute_capability=86)
WORDS_86 = ("--backend", "tensorrt-rtx", "--compute-capability", "86")


def test_engine_and_manifest(model, tmp_path):
    built = build_engine(model, tmp_path / "e" / "discs.engine", RTX_86)
    assert built.is_new
    content = json.loads((tmp_path / "e" / "discs.engine.json").read_text())
    assert content["onnx_sha256"] == sha256_of(model)
    assert content["engine_sha256"] == sha256_of(built.path)
    assert (content["backend"], content["compute_capability"]) == ("tensorrt-rtx", 86)
    assert content["inputs"] == {"image": {"shape": [1, 288, 384, 3], "dtype": "uint8"}}
    assert content["outputs"]["labels"] == {"shape": [32], "dtype": "int64"}
    assert set(content["layers"].values()) >= {"float32", "int64"}
    assert sorted(p.name for p in built.path.parent.iterdir()) == [
        "discs.engine",
        "discs.engine.json",
    ]
    manifest, metadata, engine = manifests.read_trusted(built.path)
    assert manifest == built.manifest
    assert metadata.name == "two_discs"
    assert engine == built.path.read_bytes()


def test_what_is_there_is_not_built_again(model, tmp_path):
    out = tmp_path / "discs.engine"
    first = build_engine(model, out, RTX_86)
    assert not build_engine(model, out, RTX_86).is_new
    assert build_engine(model, out, RTX_86, force=True).is_new
    for_89 = BuildOptions(backend="tensorrt-rtx", compute_capability=89)
    assert build_engine(model, out, for_89).is_new
    write_model(model, scores=np.array([0.8, 0.7]))
    changed = build_engine(model, out, for_89)
    assert changed.is_new
    assert changed.manifest.onnx_sha256 != first.manifest.onnx_sha256


def test_int8_in_name_only_is_refused(model, tmp_path):
    graph = onnx.load(model)
    graph.metadata_props.add(key="precision", value="int8")
    onnx.save(graph, model)
    with pytest.raises(ModelFileError, match="says its precision is int8, but no layer would"):
        build_engine(model, tmp_path / "e.engine", RTX_86)
    assert not (tmp_path / "e.engine").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"nonsense", lambda b: b""])
def test_damaged_models_are_not_given_to_tensorrt(model, tmp_path, damage):
    model.write_bytes(damage(model.read_bytes()))
    with pytest.raises(ModelFileError, match=r"discs\.onnx: "):
        build_engine(model, tmp_path / "e.engine", RTX_86)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_data_outside_the_file_is_not_read(model, tmp_path, monkeypatch, location):
    monkeypatch.chdir(model.parent)
    for folder in (model.parent, tmp_path):
        np.zeros(128, np.float32).tofile(folder / "weights.bin")
    graph = onnx.load(model)
    boxes = next(t for t in graph.graph.initializer if t.name == "fixed_boxes")
    boxes.ClearField("raw_data")
    boxes.data_location = onnx.TensorProto.EXTERNAL
    boxes.external_data.add(key="location", value=location)
    model.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelFileError, match="its weights are in other files"):
        build_engine(model, tmp_path / "e.engine", RTX_86)


def test_what_a_killed_build_left_is_removed(model, tmp_path):
    out = tmp_path / "out" / "e.engine"
    out.parent.mkdir()
    for name in (".e.engine.123.tmp", ".e.engine.json.123.tmp", ".other.engine.123.tmp"):
        (out.parent / name).write_bytes(b"half")
    build_engine(model, out, RTX_86)
    assert {path.name for path in out.parent.iterdir()} == {
        "e.engine",
        "e.engine.json",
        ".other.engine.123.tmp",
    }


def test_what_tensorrt_for_rtx_lacks_on_turing_is_told_with_what_to_do(tmp_path):
    turing = BuildOptions(backend="tensorrt-rtx", compute_capability=75)
    with pytest.raises(
        ModelFileError, match=r"FP32 GEMM is not supported.*use --backend tensorrt"
    ):
        build_engine(DEFAULT_MODEL, tmp_path / "e.engine", turing)
    assert list(tmp_path.glob("*.engine*")) == []


def test_backend_that_is_not_installed(model):
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="tensorrt is not installed; pip install"):
            build_engine(model, options=BuildOptions(backend="tensorrt"))
    else:
        pytest.skip("TensorRT is installed")
