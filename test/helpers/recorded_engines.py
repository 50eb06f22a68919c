"""An engine's file and manifest for `helpers.recording_cuda`, and a runtime that loads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from amodal_perception.runtime.contract import TensorSpec
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt import runtime as runtime_module
from amodal_perception.runtime.tensorrt.library import Backend
from amodal_perception.runtime.tensorrt.manifest import EngineManifest
from amodal_perception.runtime.tensorrt.runtime import TensorRtRuntime
from helpers.onnx_models import METADATA
from helpers.recording_cuda import Device, RecordingCuda, RecordingTensorRt

INPUT_HW = (4, 6)
INPUTS = {"image": TensorSpec((1, *INPUT_HW, 3), "uint8")}
OUTPUTS = {
    "boxes": TensorSpec((2, 4), "float32"),
    "scores": TensorSpec((2,), "float32"),
    "labels": TensorSpec((2,), "int64"),
    "amodal": TensorSpec((2, 3, 3), "float32"),
    "visible": TensorSpec((2, 3, 3), "float32"),
}
VERSION = "10.3"


def write_engine(path: Path, backend: str = "tensorrt", **changes: object) -> Path:
    """Write something that only the stand-in takes for an engine, and its manifest."""
    content = b"recorded engine"
    path.write_bytes(content)
    values = {
        "format_version": manifests.FORMAT_VERSION,
        "engine_sha256": hashlib.sha256(content).hexdigest(),
        "onnx_file": "/robot/model.onnx",
        "onnx_sha256": "0" * 64,
        "backend": backend,
        "backend_version": VERSION,
        "compute_capability": 86,
        "device_name": "NVIDIA Recorded",
        "multiprocessors": 28,
        "workspace_mib": 0,
        "optimization_level": 3,
        "properties": METADATA | {"input_hw": str(list(INPUT_HW))},
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "precision": {"float32": 1},
        "layers": {},
        "layers_from": "engine",
        "build_seconds": 1.0,
        "built_at": "2026-01-01T00:00:00+00:00",
    }
    manifests.write(path, EngineManifest(**{**values, **changes}))
    return path


class Machine:
    """A recorded machine: its CUDA, its TensorRT, and engines that are loaded there."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        error_type: type,
        devices: tuple[Device, ...] = (Device(),),
        backend: str = "tensorrt",
    ) -> None:
        self.cuda = RecordingCuda(error_type, devices)
        self.trt = RecordingTensorRt(self.cuda, {**INPUTS, **OUTPUTS}, VERSION)
        loaded = Backend(backend, self.trt)
        monkeypatch.setattr(runtime_module, "load_binding", lambda: self.cuda)
        monkeypatch.setattr(runtime_module, "load_backend", lambda name: loaded)

    def load(self, path: Path, device: str = "") -> TensorRtRuntime:
        """Load an engine as `load_runtime` does."""
        return TensorRtRuntime(path, device)
