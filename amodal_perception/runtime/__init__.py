"""Runtimes (ONNX Runtime, TensorRT): a uint8 image in, fixed-size tensors out."""

from __future__ import annotations

from pathlib import Path

from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.files import ASSETS
from amodal_perception.missing_packages import describe_missing_package
from amodal_perception.runtime.contract import ModelMetadata, RawDetections, Runtime

__all__ = [
    "DEFAULT_MODEL",
    "ModelMetadata",
    "RawDetections",
    "Runtime",
    "load_runtime",
]

DEFAULT_MODEL = ASSETS / "default_model.onnx"
"""The model that comes with the package."""


def load_runtime(
    path: str | Path, *, num_threads: int = 0, provider: str = "cpu", device: str = ""
) -> Runtime:
    """Load a model file with the runtime of its suffix.

    Args:
        path: an ``.onnx`` file, or an ``.engine`` with its manifest beside it.
        num_threads: CPU threads of the engine; 0 lets it choose.
        provider: what runs an ``.onnx`` file, see `providers`; an ``.engine`` has no choice.
        device: the NVIDIA GPU, by index or UUID; empty: the first.

    Raises:
        ModelFileError: missing, damaged, foreign, or against the network's contract; an engine
            also when it was built for another machine.
        ConfigError: what the engine needs is not installed, or there is no such GPU.
        EngineError: the GPU refuses to work, or no GPU can be used.
    """
    path = Path(path)
    if path.suffix not in RUNTIMES:
        raise ModelFileError(
            f"{path}: no engine for '{path.suffix}' files; known endings: "
            f"{', '.join(RUNTIMES)} (export a trained run with python -m training.export)"
        )
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    return RUNTIMES[path.suffix](path, num_threads, provider, device)


def _load_onnx(path: Path, num_threads: int, provider: str, device: str) -> Runtime:
    try:
        from amodal_perception.runtime.onnx_runtime import OnnxRuntime
    except ModuleNotFoundError as error:
        missing = describe_missing_package(error)
        if missing is None:
            raise
        raise ConfigError(f"{path}: {missing}") from None

    return OnnxRuntime(path, num_threads, provider, device)


def _load_tensorrt(path: Path, num_threads: int, provider: str, device: str) -> Runtime:
    from amodal_perception.runtime.tensorrt.runtime import TensorRtRuntime

    return TensorRtRuntime(path, device)


RUNTIMES = {".onnx": _load_onnx, ".engine": _load_tensorrt}
