"""Run a TensorRT engine on a GPU, as a CUDA graph with one upload a frame."""

from __future__ import annotations

import logging
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from amodal_perception.errors import EngineError, GpuLostError, GpuUnavailableError
from amodal_perception.runtime.contract import ModelMetadata, RawDetections
from amodal_perception.runtime.tensorrt import manifest as manifests
from amodal_perception.runtime.tensorrt.cuda import Cuda, load_binding
from amodal_perception.runtime.tensorrt.cuda_graph import capture
from amodal_perception.runtime.tensorrt.engine import Engine
from amodal_perception.runtime.tensorrt.frame_memory import FrameMemory
from amodal_perception.runtime.tensorrt.gpu import find_gpu
from amodal_perception.runtime.tensorrt.library import load_backend
from amodal_perception.runtime.tensorrt.runtime_cache import RuntimeCache
from amodal_perception.structures import UInt8Array

logger = logging.getLogger(__name__)


class TensorRtRuntime:
    """A model in TensorRT.

    All memory is allocated when it is loaded. Not for several threads at a time: the buffers are
    those of one frame. cuda-python lets go of Python's lock while it waits for the GPU, and the
    thread sleeps meanwhile. What was allocated is freed with the object, or when loading fails.

    Attributes:
        metadata: the model's.
        hardware: the GPU in words.
    """

    def __init__(self, path: Path, device: str = "") -> None:
        """Check an engine by its manifest; only then let TensorRT read it.

        Args:
            path: the ``.engine`` file, its manifest beside it.
            device: the GPU, see `find_gpu`; empty: the first.

        Raises:
            ModelFileError: damaged, stale, writable by others, or built for another GPU, TensorRT
                or contract; says how to build it again.
            ConfigError: TensorRT is not installed, or there is no such GPU.
            GpuUnavailableError: no GPU can be used, and why.
            EngineError: the GPU refuses to work.
        """
        manifest, metadata, content = manifests.read_trusted(path)
        backend = load_backend(manifest.backend)
        manifests.check_version(path, manifest, backend.version)
        try:
            cuda = Cuda(load_binding())
            gpu = find_gpu(device, cuda)
        except GpuUnavailableError as error:
            raise GpuUnavailableError(
                f"{path}: needs an NVIDIA GPU, and {error}; {manifest.onnx_file} runs without one"
            ) from None
        warning = manifests.check_gpu(path, manifest, gpu)
        if warning:
            logger.warning("%s", warning)
        self.metadata: ModelMetadata = metadata
        self.hardware = str(gpu)
        self._path, self._cuda, self._index = path, cuda, gpu.index
        self._graph: Any = None
        tensors = {**manifest.inputs, **manifest.outputs}
        cache = RuntimeCache(path, manifest.engine_sha256) if backend.has_runtime_cache else None
        cuda.use(self._index)
        with ExitStack() as owned:
            self._engine = Engine(path, content, backend, cuda, tensors, cache)
            self._stream = cuda.make_stream()
            owned.callback(cuda.destroy_stream, self._stream)
            self._done = cuda.make_event()
            owned.callback(cuda.destroy_event, self._done)
            self._memory = FrameMemory(
                cuda, owned, manifest.inputs, manifest.outputs, is_shared=gpu.is_integrated
            )
            for name, address in self._memory.addresses.items():
                self._engine.bind(name, address)
            self._outputs = tuple(manifest.outputs)
            self._run()  # kernels are compiled and loaded now, not inside the graph
            self._use_graph(owned)
            if cache is not None:
                cache.save()
            weakref.finalize(self, _free, cuda, self._index, self._stream, owned.pop_all())

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network on [1, H, W, 3] uint8 RGB.

        Raises:
            GpuMemoryError: the GPU's memory ran out.
            GpuLostError: the GPU is lost to this process.
            EngineError: the engine failed otherwise.
        """
        self._cuda.use(self._index)  # each thread has its own
        np.copyto(self._memory.host["image"], image)
        self._run()
        values = {name: self._memory.host[name].copy() for name in self._outputs}
        return RawDetections.of_outputs(values)

    def _run(self) -> None:
        """Do a frame's work and sleep until it is done."""
        try:
            if self._graph is None:
                self._enqueue()
            else:
                self._cuda.launch(self._graph, self._stream)
            self._cuda.record(self._done, self._stream)
            self._cuda.wait(self._done)
        except EngineError:
            with suppress(EngineError):  # what is still at work must not meet the next frame
                self._cuda.synchronize(self._stream)
            raise

    def _enqueue(self) -> None:
        """Put a frame's work on the stream: upload, network, downloads."""
        self._memory.upload(self._stream)
        self._engine.enqueue(self._stream)
        self._memory.download(self._stream)

    def _use_graph(self, owned: ExitStack) -> None:
        """Record a frame's work for one launch; where that fails, work goes on without."""
        try:
            graph = capture(self._cuda, self._stream, self._enqueue)
            owned.callback(self._cuda.destroy_launchable, graph)
            self._graph = graph
            self._run()
        except GpuLostError:
            raise
        except EngineError as error:
            self._graph = None  # what was made of it is freed with the rest
            self._cuda.forget_error()
            logger.warning(
                "%s: runs without a CUDA graph, a little slower: %s", self._path, str(error)
            )
            self._run()  # as every frame from now on


def _free(cuda: Cuda, index: int, stream: Any, owned: ExitStack) -> None:
    """Free what a runtime owns, in whichever thread; of a lost GPU nothing is left to free."""
    with suppress(EngineError):
        cuda.use(index)
    with suppress(EngineError):
        cuda.synchronize(stream)
    owned.close()
