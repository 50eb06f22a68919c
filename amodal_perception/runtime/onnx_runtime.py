"""Run a model in ONNX Runtime, on the CPU or another execution provider."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime

from amodal_perception.errors import ConfigError, GpuUnavailableError, ModelFileError, one_line
from amodal_perception.runtime.contract import (
    ModelMetadata,
    RawDetections,
    TensorSpec,
    check_contract,
)
from amodal_perception.runtime.onnx_engine_cache import OnnxEngineCache
from amodal_perception.runtime.providers import (
    ON_NVIDIA,
    ORT_DTYPES,
    PROVIDERS,
    provider_options,
)
from amodal_perception.runtime.self_contained import check_self_contained
from amodal_perception.runtime.tensorrt.cuda import driver_version
from amodal_perception.runtime.tensorrt.cuda_errors import DRIVER_TOO_OLD
from amodal_perception.runtime.tensorrt.gpu import find_gpu
from amodal_perception.runtime.tensorrt.library import installed_version
from amodal_perception.structures import UInt8Array

PACKAGES = {
    "cpu": "onnxruntime",
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "openvino": "onnxruntime-openvino",
}
"""Which package on PyPI has a provider."""


class OnnxRuntime:
    """A model in ONNX Runtime; holds no state between frames."""

    def __init__(
        self, path: Path, num_threads: int = 0, provider: str = "cpu", device: str = ""
    ) -> None:
        """Load and check a model.

        Args:
            path: the ``.onnx`` file; all of the model must be in it.
            num_threads: threads inside one operator; 0 lets ONNX Runtime choose.
            provider: of `PROVIDERS`; operators that it lacks run on the CPU.
            device: the NVIDIA GPU, by index or UUID; empty: the first.

        Raises:
            ModelFileError: damaged, foreign, or against the contract.
            ConfigError: this installation of ONNX Runtime cannot use the provider, or there is no
                such GPU.
            GpuUnavailableError: no GPU can be used, and why.
        """
        _check_available(provider)
        if device and provider not in ON_NVIDIA:
            raise ConfigError(
                f"device is {device!r}, but the provider {provider} runs on no NVIDIA GPU; "
                f"choose one of: {', '.join(ON_NVIDIA)}"
            )
        content = path.read_bytes()  # hashed and loaded from one reading
        check_self_contained(path, content)
        digest = hashlib.sha256(content).hexdigest()
        index, gpu = _nvidia_gpu(device) if provider in ON_NVIDIA else (0, "")
        self.hardware = f"{gpu}, by the provider {provider}" if gpu else provider
        cache = OnnxEngineCache(digest, _identity(gpu)) if provider == "tensorrt" else None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 4  # failures are raised; they need no second line
        # Threads that wait for their next operator do so busily, which is fastest; but between
        # two frames they leave the cores to others. Measured in docs/speed.md.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Without it, int8 sums overflow on processors that have AVX2 but not VNNI, and a tenth of
        # the objects is lost. Where VNNI is, it changes nothing.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                options,
                providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])),
                provider_options=[
                    provider_options(name, index, cache.folder if cache else None)
                    for name in dict.fromkeys([provider, "cpu"])
                ],
            )
        except Exception as error:  # ONNX Runtime raises a dozen types with no common base
            raise ModelFileError(
                f"{path}: is no usable ONNX model, or is truncated, or is newer than ONNX Runtime "
                f"{onnxruntime.__version__} ({one_line(error)})"
            ) from None
        if PROVIDERS[provider] not in self._session.get_providers():
            raise ConfigError(
                f"provider {provider}: ONNX Runtime has it, but cannot start it; are its drivers "
                "and libraries installed?"
            )
        self.metadata: ModelMetadata = check_contract(
            path,
            sha256=digest,
            properties=self._session.get_modelmeta().custom_metadata_map,
            inputs=_specs(self._session.get_inputs()),
            outputs=_specs(self._session.get_outputs()),
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        if gpu:  # engines are built and memory is allocated now, not with a frame
            self(np.zeros((1, *self.metadata.input_hw, 3), np.uint8))
        if cache is not None:
            cache.note_files()

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB."""
        values = dict(zip(self._outputs, self._session.run(self._outputs, {"image": image})))
        return RawDetections.of_outputs(values)


def _check_available(provider: str) -> None:
    if provider not in PROVIDERS:
        raise ConfigError(f"unknown provider '{provider}'; known are: {', '.join(PROVIDERS)}")
    here = onnxruntime.get_available_providers()
    if PROVIDERS[provider] not in here:
        names = ", ".join(name for name, full in PROVIDERS.items() if full in here)
        raise ConfigError(
            f"provider {provider}: not in this installation of ONNX Runtime, which has: {names}; "
            f"install one that has it ({PACKAGES[provider]})"
        )


def _nvidia_gpu(device: str) -> tuple[int, str]:
    """Return a GPU's index and description.

    ONNX Runtime brings a CUDA of its own: Python bindings that are missing, or too new for the
    driver, do not keep it from working.
    """
    try:
        gpu = find_gpu(device)
    except GpuUnavailableError as error:
        is_of_bindings = not error.cuda_name or error.cuda_name in DRIVER_TOO_OLD
        if not (is_of_bindings and driver_version() and (device.isdigit() or not device)):
            raise
        return int(device or 0), f"GPU {device or 0}"
    return gpu.index, str(gpu)


def _identity(gpu: str) -> dict[str, str]:
    """Return what an engine of the TensorRT provider holds for, but for the model."""
    return {
        "onnxruntime": onnxruntime.__version__,
        "tensorrt": installed_version("tensorrt"),
        "gpu": gpu,
    }


def _specs(tensors: list[onnxruntime.NodeArg]) -> dict[str, TensorSpec]:
    return {
        tensor.name: TensorSpec(tuple(tensor.shape), ORT_DTYPES.get(tensor.type, tensor.type))
        for tensor in tensors
    }
