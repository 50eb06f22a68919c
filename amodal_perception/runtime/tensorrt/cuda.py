"""All calls of CUDA that this package makes, each one line, each checked.

Nothing else touches the binding. ``test/helpers/recording_cuda.py`` stands in for it in tests.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from amodal_perception.errors import EngineError, GpuUnavailableError
from amodal_perception.runtime.tensorrt.cuda_errors import CudaVersions, failure


@dataclass(frozen=True)
class Gpu:
    """A GPU, as CUDA describes it.

    Attributes:
        index: CUDA's, of those that `CUDA_VISIBLE_DEVICES` shows.
        uuid: such as ``GPU-1b2c...``, as nvidia-smi -L lists it.
        name: such as ``NVIDIA GeForce RTX 3060``.
        compute_capability: such as 86.
        multiprocessors: number of streaming multiprocessors (SM).
        memory_bytes: all of its memory; of an integrated one, the host's.
        is_integrated: it shares the host's memory, as on a Jetson.
    """

    index: int
    uuid: str
    name: str
    compute_capability: int
    multiprocessors: int
    memory_bytes: int
    is_integrated: bool

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.memory_bytes / 2**30:.1f} GiB, compute capability "
            f"{self.compute_capability}, {self.multiprocessors} multiprocessors)"
        )


def load_binding() -> Any:
    """Import the CUDA runtime's Python binding.

    Raises:
        GpuUnavailableError: not installed, or it does not load.
    """
    try:
        from cuda.bindings import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            runtime,
        )
    except (ImportError, OSError, RuntimeError) as error:
        driver = driver_version()
        wanted = f"=={driver // 1000}.*" if driver else ""
        raise GpuUnavailableError(
            f"CUDA's Python bindings do not load ({error}; {CudaVersions(driver, 0)}): "
            f"pip install 'cuda-bindings{wanted}'"
        ) from None
    return runtime


def driver_version() -> int:
    """Ask the driver itself, without bindings, for its CUDA version; 0: no driver."""
    try:
        version = ctypes.c_int(0)
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else int(version.value)


class Cuda:
    """CUDA's runtime; every method raises what `cuda_errors.failure` makes of its error.

    But for those that free: they never fail, so that an error before keeps its own message.
    Handles of streams, events and graphs are the binding's own; addresses are numbers.
    """

    def __init__(self, binding: Any) -> None:
        """Take the binding: `load_binding`, or a stand-in for it."""
        self._api = binding

    def versions(self) -> CudaVersions:
        """Return the driver's version of CUDA, and the binding's."""
        return CudaVersions(
            driver=int(self._checked("cudaDriverGetVersion", "asking the driver")),
            runtime=int(self._checked("cudaRuntimeGetVersion", "asking the bindings")),
        )

    def device_count(self) -> int:
        """Return the number of GPUs."""
        return int(self._checked("cudaGetDeviceCount", "counting GPUs"))

    def gpu(self, index: int) -> Gpu:
        """Describe a GPU."""
        found = self._checked("cudaGetDeviceProperties", "asking the GPU", index)
        name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        digits = bytes(found.uuid.bytes).hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return Gpu(
            index=index,
            uuid="GPU-" + "-".join(parts),
            name=name.rstrip("\0"),
            compute_capability=int(10 * found.major + found.minor),
            multiprocessors=int(found.multiProcessorCount),
            memory_bytes=int(found.totalGlobalMem),
            is_integrated=bool(found.integrated and found.canMapHostMemory),
        )

    def use(self, index: int) -> None:
        """Make a GPU this thread's."""
        self._checked("cudaSetDevice", "choosing the GPU", index)

    def free_memory_bytes(self) -> int:
        """Return how much of the GPU's memory is free; fails if the GPU is lost."""
        return int(self._checked("cudaMemGetInfo", "asking for memory")[0])

    def make_stream(self) -> Any:
        """Make a stream that waits for no other."""
        flags = self._api.cudaStreamNonBlocking
        return self._checked("cudaStreamCreateWithFlags", "making a stream", flags)

    def destroy_stream(self, stream: Any) -> None:
        """Free a stream."""
        self._freed("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait for a stream's work."""
        self._checked("cudaStreamSynchronize", "running the engine", stream)

    def make_event(self) -> Any:
        """Make an event on which a thread sleeps, where it would else keep a core busy."""
        flags = self._api.cudaEventBlockingSync | self._api.cudaEventDisableTiming
        return self._checked("cudaEventCreateWithFlags", "making an event", flags)

    def destroy_event(self, event: Any) -> None:
        """Free an event."""
        self._freed("cudaEventDestroy", event)

    def record(self, event: Any, stream: Any) -> None:
        """Have an event happen when the stream's work so far is done."""
        self._checked("cudaEventRecord", "running the engine", event, stream)

    def wait(self, event: Any) -> None:
        """Sleep until an event has happened."""
        self._checked("cudaEventSynchronize", "running the engine", event)

    def allocate(self, size: int, what: str) -> int:
        """Allocate memory of the GPU."""
        return int(self._checked("cudaMalloc", f"allocating {what}", size))

    def free(self, address: int) -> None:
        """Free memory of the GPU."""
        self._freed("cudaFree", address)

    def allocate_host(self, size: int, what: str, *, is_mapped: bool) -> int:
        """Allocate page-locked memory of the host; mapped: the GPU can address it, too."""
        api = self._api
        flags = api.cudaHostAllocMapped if is_mapped else api.cudaHostAllocDefault
        return int(self._checked("cudaHostAlloc", f"allocating {what}", size, flags))

    def free_host(self, address: int) -> None:
        """Free page-locked memory."""
        self._freed("cudaFreeHost", address)

    def device_address(self, host_address: int) -> int:
        """Return the GPU's address of mapped memory."""
        return int(self._checked("cudaHostGetDevicePointer", "mapping memory", host_address, 0))

    def upload(self, to: int, host: int, size: int, stream: Any) -> None:
        """Copy to the GPU, in the stream's turn."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._checked("cudaMemcpyAsync", "copying", to, host, size, kind, stream)

    def download(self, host: int, source: int, size: int, stream: Any) -> None:
        """Copy from the GPU, in the stream's turn."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._checked("cudaMemcpyAsync", "copying", host, source, size, kind, stream)

    def begin_capture(self, stream: Any) -> None:
        """Record a stream's work from now on, instead of doing it."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._checked("cudaStreamBeginCapture", "capturing the engine", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded, a graph."""
        return self._checked("cudaStreamEndCapture", "capturing the engine", stream)

    def destroy_graph(self, graph: Any) -> None:
        """Free a graph."""
        self._freed("cudaGraphDestroy", graph)

    def instantiate(self, graph: Any) -> Any:
        """Return a graph that can be launched."""
        return self._checked("cudaGraphInstantiate", "capturing the engine", graph, 0)

    def destroy_launchable(self, launchable: Any) -> None:
        """Free a graph that can be launched."""
        self._freed("cudaGraphExecDestroy", launchable)

    def launch(self, launchable: Any, stream: Any) -> None:
        """Do a graph's work, in the stream's turn."""
        self._checked("cudaGraphLaunch", "launching the engine", launchable, stream)

    def forget_error(self) -> None:
        """Forget the last error, which others might take for theirs."""
        self._api.cudaGetLastError()

    def error_name(self, number: int) -> str:
        """Return CUDA's name of an error by its number."""
        try:
            return str(self._api.cudaError_t(number).name)
        except ValueError:
            return f"error {number}"

    def _freed(self, function: str, handle: Any) -> None:
        with suppress(EngineError):
            self._checked(function, "freeing", handle)

    def _checked(self, function: str, what: str, *arguments: Any) -> Any:
        """Call the binding; return its values without the error code, a single one bare."""
        try:
            error, *values = getattr(self._api, function)(*arguments)
        except (AttributeError, RuntimeError) as problem:  # a driver that lacks the function
            raise EngineError(f"{what}: {function} is not to be had ({problem})") from None
        if int(error) == 0:
            return values[0] if len(values) == 1 else tuple(values)
        raise failure(str(getattr(error, "name", f"error {int(error)}")), what)
