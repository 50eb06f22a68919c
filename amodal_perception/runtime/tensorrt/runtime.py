"""Run a TensorRT engine on the GPU, as a CUDA graph with one upload a frame."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import EngineError, ModelFileError
from amodal_perception.runtime.contract import ModelMetadata, RawDetections, TensorSpec
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.gpu import check_cuda, compute_capability, cuda_runtime
from amodal_perception.runtime.tensorrt.library import (
    DTYPES,
    Backend,
    error_lines,
    load_backend,
    make_logger,
)
from amodal_perception.structures import UInt8Array


class TensorRtRuntime:
    """A model in TensorRT, on the first GPU.

    All memory is allocated when it is loaded. Not for several threads at a time: the buffers are
    those of one frame. cuda-python lets go of Python's lock while it waits for the GPU. What was
    allocated is freed with the object, or when loading fails.
    """

    def __init__(self, path: Path) -> None:
        """Check an engine by its manifest; only then let TensorRT read it.

        Args:
            path: the ``.engine`` file, its manifest beside it.

        Raises:
            ModelFileError: damaged, stale, writable by others, or built for another GPU, TensorRT
                or contract; says how to build it again.
            ConfigError: TensorRT or cuda-python is not installed.
            EngineError: the GPU refuses to work.
        """
        manifest, metadata, content = manifests.read_trusted(path)
        backend = load_backend(manifest.backend)
        capability = compute_capability()
        manifests.check_machine(
            path, manifest, backend_version=backend.version, compute_capability=capability
        )
        if capability is None:
            raise ModelFileError(
                f"{path}: needs an NVIDIA GPU and its driver, and none answers here; "
                f"{manifest.onnx_file} runs without one"
            )
        self.metadata: ModelMetadata = metadata
        self._cuda = cuda_runtime()
        self._logger = make_logger(backend)
        self._engine = _deserialize(path, backend, self._logger, content)
        _check_tensors(path, backend, self._engine, {**manifest.inputs, **manifest.outputs})
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{path}: no memory for its execution ({self._reason()})")
        flags = self._cuda.cudaStreamNonBlocking
        self._owned = ExitStack()
        weakref.finalize(self, self._owned.close)
        self._stream = check_cuda(self._cuda.cudaStreamCreateWithFlags(flags), "making a stream")
        self._owned.callback(self._cuda.cudaStreamDestroy, self._stream)
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        for name, spec in {**manifest.inputs, **manifest.outputs}.items():
            self._allocate(name, spec)
        self._inputs, self._outputs = tuple(manifest.inputs), tuple(manifest.outputs)
        self._enqueue()  # kernels are compiled and loaded now, not inside the graph
        self._wait()
        self._graph = self._capture()

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB.

        Raises:
            GpuMemoryError: the GPU's memory ran out.
            GpuLostError: the GPU is lost to this process.
            EngineError: the engine failed otherwise.
        """
        np.copyto(self._host["image"], image)
        check_cuda(self._cuda.cudaGraphLaunch(self._graph, self._stream), "launching the engine")
        self._wait()
        values = {name: self._host[name].copy() for name in self._outputs}
        return RawDetections.of_outputs(values)

    def _allocate(self, name: str, spec: TensorSpec) -> None:
        """Give a tensor memory on the GPU, and page-locked memory here to copy from or to."""
        shape = tuple(int(str(length)) for length in spec.shape)
        size = math.prod(shape) * np.dtype(spec.dtype).itemsize
        pinned = check_cuda(self._cuda.cudaMallocHost(size), f"allocating {name}")
        self._owned.callback(self._cuda.cudaFreeHost, pinned)
        memory = (ctypes.c_ubyte * size).from_address(int(pinned))
        self._host[name] = np.ctypeslib.as_array(memory).view(spec.dtype).reshape(shape)
        self._host[name].fill(0)
        device = check_cuda(self._cuda.cudaMalloc(size), f"allocating {name}")
        self._owned.callback(self._cuda.cudaFree, device)
        self._device[name] = int(device)
        self._context.set_tensor_address(name, self._device[name])

    def _enqueue(self) -> None:
        """Put a frame's work on the stream: upload, network, downloads."""
        kinds = self._cuda.cudaMemcpyKind
        for name in self._inputs:
            host = self._host[name]
            there, here = self._device[name], host.ctypes.data
            self._copy(there, here, host.nbytes, kinds.cudaMemcpyHostToDevice)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError(f"the engine does not start ({self._reason()})")
        for name in self._outputs:
            host = self._host[name]
            there, here = self._device[name], host.ctypes.data
            self._copy(here, there, host.nbytes, kinds.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        check_cuda(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream), "copying")

    def _capture(self) -> Any:
        """Record a frame's work, so that it costs one launch."""
        cuda = self._cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check_cuda(cuda.cudaStreamBeginCapture(self._stream, mode), "capturing the engine")
        self._enqueue()
        graph = check_cuda(cuda.cudaStreamEndCapture(self._stream), "capturing the engine")
        self._owned.callback(cuda.cudaGraphDestroy, graph)
        launchable = check_cuda(cuda.cudaGraphInstantiate(graph, 0), "capturing the engine")
        self._owned.callback(cuda.cudaGraphExecDestroy, launchable)
        return launchable

    def _wait(self) -> None:
        check_cuda(self._cuda.cudaStreamSynchronize(self._stream), "running the engine")

    def _reason(self) -> str:
        return "; ".join(map(error_lines, list(self._logger.errors)[-1:])) or "no reason given"


def _deserialize(path: Path, backend: Backend, logger: Any, content: bytes) -> Any:
    engine = backend.api.Runtime(logger).deserialize_cuda_engine(content)
    if engine is None:
        reason = "; ".join(map(error_lines, logger.errors)) or "no reason given"
        raise ModelFileError(f"{path}: {backend.name} cannot read it: {reason}")
    return engine


def _check_tensors(
    path: Path, backend: Backend, engine: Any, expected: Mapping[str, TensorSpec]
) -> None:
    """Check that the engine's inputs and outputs are those of its manifest."""
    found = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = engine.get_tensor_dtype(name).name
        shape = tuple(engine.get_tensor_shape(name))
        found[name] = TensorSpec(shape, DTYPES.get(dtype, dtype.lower()))
    if found != dict(expected):
        raise ModelFileError(f"{path}: has {found}, but its manifest says {dict(expected)}")
