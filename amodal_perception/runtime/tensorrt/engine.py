"""An engine in TensorRT: read, compared with its manifest, and ready to be enqueued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amodal_perception.errors import AmodalError, EngineError, GpuLostError, ModelFileError
from amodal_perception.runtime.contract import TensorSpec
from amodal_perception.runtime.tensorrt.cuda import Cuda
from amodal_perception.runtime.tensorrt.cuda_errors import failure, logged_error
from amodal_perception.runtime.tensorrt.library import DTYPES, Backend, error_lines, make_logger
from amodal_perception.runtime.tensorrt.runtime_cache import RuntimeCache


class Engine:
    """An engine and its execution context, on this thread's GPU.

    TensorRT says only that something failed, and logs why. So every failure is looked into: the
    GPU may be lost, its memory full, or the file unreadable.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        backend: Backend,
        cuda: Cuda,
        expected: Mapping[str, TensorSpec],
        cache: RuntimeCache | None,
    ) -> None:
        """Let TensorRT read an engine that has been checked.

        Args:
            path: of the engine, for messages.
            content: the engine.
            backend: the TensorRT that built it.
            cuda: for what TensorRT does not say.
            expected: inputs and outputs by its manifest.
            cache: of the kernels compiled here; None: this TensorRT has none.

        Raises:
            ModelFileError: TensorRT cannot read it, or it is not what its manifest says.
            GpuMemoryError: the GPU's memory is full.
            GpuLostError: the GPU is lost to this process.
            EngineError: TensorRT fails otherwise.
        """
        self._path, self._cuda = path, cuda
        self._logger = make_logger(backend)
        try:
            self._runtime = backend.api.Runtime(self._logger)  # lives as long as the engine
        except TypeError:  # how the binding tells that TensorRT gave nothing
            raise self._failed(f"{path}: {backend.name} does not start", EngineError) from None
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self._failed(f"{path}: {backend.name} cannot read it", ModelFileError)
        _check_tensors(path, self._engine, expected)
        if cache is None:
            self._context = self._engine.create_execution_context()
        else:
            self._config = cache.configure(self._engine)
            self._context = self._engine.create_execution_context(self._config)
        if self._context is None:
            raise self._failed(f"{path}: cannot be prepared ({self._memory()})", EngineError)

    def bind(self, name: str, address: int) -> None:
        """Tell where a tensor lies in the GPU's memory.

        Raises:
            EngineError: TensorRT refuses.
        """
        if not self._context.set_tensor_address(name, address):
            raise self._failed(f"{self._path}: no place for '{name}'", EngineError)

    def enqueue(self, stream: Any) -> None:
        """Put the network on the stream.

        Raises:
            GpuMemoryError: the GPU's memory is full.
            GpuLostError: the GPU is lost to this process.
            EngineError: it does not start.
        """
        self._logger.errors.clear()
        if not self._context.execute_async_v3(int(stream)):
            raise self._failed("the engine does not start", EngineError)

    def _failed(self, what: str, kind: type[AmodalError]) -> AmodalError:
        """Return the error for what TensorRT refused: CUDA's if that is the cause, else `kind`."""
        reason = "; ".join(map(error_lines, self._logger.errors)) or "no reason given"
        try:
            self._cuda.free_memory_bytes()
        except GpuLostError as error:
            return error
        except EngineError:
            pass
        number = logged_error(reason)
        if number:
            return failure(self._cuda.error_name(number), f"{what}: {reason}")
        return kind(f"{what}: {reason}")

    def _memory(self) -> str:
        try:
            free = f"{self._cuda.free_memory_bytes() / 2**20:.0f} MiB"
        except EngineError as error:
            free = f"unknown, {error}"
        return f"needs {self._engine.device_memory_size_v2 / 2**20:.0f} MiB, free: {free}"


def _check_tensors(path: Path, engine: Any, expected: Mapping[str, TensorSpec]) -> None:
    """Check that the engine's inputs and outputs are those of its manifest."""
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        found[name] = TensorSpec(shape, DTYPES.get(dtype, dtype.lower()))
    if found != dict(expected):
        raise ModelFileError(f"{path}: has {found}, but its manifest says {dict(expected)}")
