"""Real builds by TensorRT for RTX, which needs no GPU for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.onnx_models import write_model


@pytest.fixture
def model(tmp_path):
    """Give a tiny model, in a folder of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    return write_model(folder / "discs.onnx")


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def assert_builds(path: Path) -> None:
    """Compile an ONNX file for compute capability 8.6; the test skips without TensorRT."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(path.read_bytes())
    assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None
