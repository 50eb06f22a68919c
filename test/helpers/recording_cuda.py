"""Stand-ins for CUDA's binding and TensorRT: they record calls and enforce the documented states.

They test this package's logic (what is called, in which state, what is freed, which exception
follows), never CUDA or TensorRT. The rules: memory and handles are used after they are made and
before they are freed, and freed once; a stream that captures does no work, and ends its capture;
a graph is launched on a stream that does not capture; a sticky error stays.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from amodal_perception.runtime.contract import TensorSpec
from amodal_perception.runtime.tensorrt.cuda_errors import STICKY

SUCCESS = 0
TRT_NAMES = {
    "float32": "FLOAT",
    "float16": "HALF",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
}
FREEING = ("cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaEventDestroy")
FREEING += ("cudaGraphDestroy", "cudaGraphExecDestroy")


class BrokenRuleError(AssertionError):
    """A call in a state in which its documentation forbids it."""


class Handle:
    """A stream, event or graph; its number is what TensorRT is given."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number, self.work = kind, number, []

    def __int__(self) -> int:
        return self.number


class MemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class CaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


@dataclass
class Device:
    """What the stand-in's GPU is like."""

    name: bytes = b"NVIDIA Recorded"
    major: int = 8
    minor: int = 6
    multiProcessorCount: int = 28  # noqa: N815
    totalGlobalMem: int = 12 << 30  # noqa: N815
    integrated: int = 0
    canMapHostMemory: int = 1  # noqa: N815
    uuid: Any = field(default_factory=lambda: SimpleNamespace(bytes=bytes(range(16))))


class RecordingCuda:
    """Stands in for the module ``cuda.bindings.runtime``.

    Memory is the host's, so that copies and the stand-in's network can be followed.
    """

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaEventBlockingSync, cudaEventDisableTiming = 1, 2  # noqa: N815
    cudaHostAllocDefault, cudaHostAllocMapped = 0, 2  # noqa: N815
    cudaMemcpyKind = MemcpyKind  # noqa: N815
    cudaStreamCaptureMode = CaptureMode  # noqa: N815

    def __init__(
        self,
        error_type: type[IntEnum],
        devices: tuple[Device, ...] = (Device(),),
        driver: int = 13000,
        runtime: int = 13000,
    ) -> None:
        """Describe the machine.

        Args:
            error_type: the binding's enumeration of errors, the real one.
            devices: GPUs.
            driver: its CUDA version.
            runtime: the binding's.
        """
        self.cudaError_t = error_type
        self.devices, self.driver, self.runtime = devices, driver, runtime
        self.calls: list[str] = []
        self.memory: dict[int, tuple[str, Any]] = {}  # address -> kind, buffer
        self.handles: dict[int, Handle] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.invalidated: set[int] = set()
        self.failures: dict[int, str] = {}  # index of a call -> error it gives
        self.sticky = ""
        self.in_use = 0
        self._next = 1

    # Faults

    def fail_call(self, index: int, name: str) -> None:
        """Have the call of this index, counted from 0, give an error once."""
        self.failures[index] = name

    def lose(self, name: str) -> None:
        """Have every call give an error from now on."""
        self.sticky = name

    def left(self) -> list[str]:
        """Return what was made and not freed, garbage collected first."""
        gc.collect()
        return self.left_quickly()

    def left_quickly(self) -> list[str]:
        """Return what was made and not freed."""
        return [kind for kind, _ in self.memory.values()] + [h.kind for h in self.handles.values()]

    def _begin(self, name: str) -> Any:
        """Record a call; return the error it gives, or None."""
        index = len(self.calls)
        self.calls.append(name)
        if (
            name in ("cudaDriverGetVersion", "cudaRuntimeGetVersion")
            and index not in self.failures
        ):
            return None
        if self.sticky:
            return getattr(self.cudaError_t, self.sticky)
        if index in self.failures:
            error = self.failures[index]
            if error in STICKY:
                self.sticky = error
            return getattr(self.cudaError_t, error)
        return None

    # The machine

    def cudaDriverGetVersion(self):  # noqa: N802
        error = self._begin("cudaDriverGetVersion")
        return (error, None) if error else (SUCCESS, self.driver)

    def cudaRuntimeGetVersion(self):  # noqa: N802
        error = self._begin("cudaRuntimeGetVersion")
        return (error, None) if error else (SUCCESS, self.runtime)

    def cudaGetDeviceCount(self):  # noqa: N802
        error = self._begin("cudaGetDeviceCount")
        return (error, None) if error else (SUCCESS, len(self.devices))

    def cudaGetDeviceProperties(self, device):  # noqa: N802
        error = self._begin("cudaGetDeviceProperties")
        return (error, None) if error else (SUCCESS, self.devices[device])

    def cudaSetDevice(self, device):  # noqa: N802
        error = self._begin("cudaSetDevice")
        if error:
            return (error,)
        if not 0 <= device < len(self.devices):
            raise BrokenRuleError(f"device {device}")
        self.in_use = device
        return (SUCCESS,)

    def cudaMemGetInfo(self):  # noqa: N802
        error = self._begin("cudaMemGetInfo")
        return (error, None, None) if error else (SUCCESS, 1 << 30, 12 << 30)

    def cudaGetLastError(self):  # noqa: N802
        self.calls.append("cudaGetLastError")
        return (getattr(self.cudaError_t, self.sticky) if self.sticky else SUCCESS,)

    # Memory

    def _allocate(self, call, kind, size):
        error = self._begin(call)
        if error:
            return error, None
        if self.capturing:
            raise BrokenRuleError(f"{call} while a stream captures")
        buffer = (ctypes.c_ubyte * max(size, 1))()
        address = ctypes.addressof(buffer)
        self.memory[address] = (kind, buffer)
        return SUCCESS, address

    def cudaMalloc(self, size):  # noqa: N802
        return self._allocate("cudaMalloc", "device memory", size)

    def cudaHostAlloc(self, size, flags):  # noqa: N802
        kind = "mapped memory" if flags & self.cudaHostAllocMapped else "host memory"
        return self._allocate("cudaHostAlloc", kind, size)

    def cudaHostGetDevicePointer(self, address, flags):  # noqa: N802
        error = self._begin("cudaHostGetDevicePointer")
        if error:
            return error, None
        if self.memory.get(address, ("",))[0] != "mapped memory":
            raise BrokenRuleError("the address of memory that is not mapped")
        return SUCCESS, address

    def _free(self, call, kinds, address):
        error = self._begin(call)
        if error and not self.sticky:
            # The stand-in's own books: what a failed call did not free is no leak of the caller.
            self.memory.pop(address, None)
        if self.sticky:  # with the GPU its memory is gone
            self.memory.pop(address, None)
        if error:
            return (error,)
        if self.memory.get(address, ("",))[0] not in kinds:
            raise BrokenRuleError(f"{call} of what was never allocated, or freed already")
        del self.memory[address]
        return (SUCCESS,)

    def cudaFree(self, address):  # noqa: N802
        return self._free("cudaFree", ("device memory",), address)

    def cudaFreeHost(self, address):  # noqa: N802
        return self._free("cudaFreeHost", ("host memory", "mapped memory"), address)

    def check_memory(self, address: int, size: int, kinds: tuple[str, ...]) -> None:
        """Check that a range lies in memory of these kinds."""
        kind, buffer = self.memory.get(address, ("", b""))
        if kind not in kinds or size > len(buffer):
            raise BrokenRuleError(f"{size} bytes at {address}: {kind or 'not allocated'}")

    # Streams, events, graphs

    def _make(self, call, kind):
        error = self._begin(call)
        if error:
            return error, None
        handle = Handle(kind, self._next)
        self._next += 1
        self.handles[handle.number] = handle
        return SUCCESS, handle

    def _end(self, call, kind, handle):
        error = self._begin(call)
        if error:
            self.handles.pop(handle.number, None)
            return (error,)
        self.known(handle, kind)
        del self.handles[handle.number]
        return (SUCCESS,)

    def known(self, handle: Handle, kind: str) -> None:
        """Check that a handle lives and is of its kind."""
        if self.handles.get(int(handle)) is not handle or handle.kind != kind:
            raise BrokenRuleError(f"a {kind} that was never made, or freed already")

    def cudaStreamCreateWithFlags(self, flags):  # noqa: N802
        return self._make("cudaStreamCreateWithFlags", "stream")

    def cudaStreamDestroy(self, stream):  # noqa: N802
        if int(stream) in self.capturing and not self.sticky:
            raise BrokenRuleError("a stream freed while it captures")
        return self._end("cudaStreamDestroy", "stream", stream)

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        error = self._begin("cudaStreamSynchronize")
        if error:
            return (error,)
        self.known(stream, "stream")
        if int(stream) in self.capturing:
            raise BrokenRuleError("waiting for a stream that captures")
        return (SUCCESS,)

    def cudaEventCreateWithFlags(self, flags):  # noqa: N802
        return self._make("cudaEventCreateWithFlags", "event")

    def cudaEventDestroy(self, event):  # noqa: N802
        return self._end("cudaEventDestroy", "event", event)

    def cudaEventRecord(self, event, stream):  # noqa: N802
        error = self._begin("cudaEventRecord")
        if error:
            return (error,)
        self.known(event, "event")
        self.known(stream, "stream")
        event.work = [stream]
        return (SUCCESS,)

    def cudaEventSynchronize(self, event):  # noqa: N802
        error = self._begin("cudaEventSynchronize")
        if error:
            return (error,)
        self.known(event, "event")
        if not event.work:
            raise BrokenRuleError("waiting for an event that was never recorded")
        if int(event.work[0]) in self.capturing:
            raise BrokenRuleError("waiting for a stream that captures")
        return (SUCCESS,)

    def submit(self, stream: Handle, work: Callable[[], None]) -> None:
        """Do work in a stream's turn, or capture it."""
        self.known(stream, "stream")
        if int(stream) in self.capturing:
            self.capturing[int(stream)].append(work)
        else:
            work()

    def cudaMemcpyAsync(self, to, source, size, kind, stream):  # noqa: N802
        error = self._begin("cudaMemcpyAsync")
        if error:
            if int(stream) in self.capturing:
                self.invalidated.add(int(stream))
            return (error,)
        there, here = (("device memory",), ("host memory",))
        target, origin = (
            (there, here) if kind == MemcpyKind.cudaMemcpyHostToDevice else (here, there)
        )
        self.check_memory(to, size, target)
        self.check_memory(source, size, origin)

        def copy() -> None:
            self.check_memory(to, size, target)
            self.check_memory(source, size, origin)
            ctypes.memmove(to, source, size)

        self.submit(stream, copy)
        return (SUCCESS,)

    def cudaStreamBeginCapture(self, stream, mode):  # noqa: N802
        error = self._begin("cudaStreamBeginCapture")
        if error:
            return (error,)
        self.known(stream, "stream")
        if int(stream) in self.capturing:
            raise BrokenRuleError("a capture within a capture")
        self.capturing[int(stream)] = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, stream):  # noqa: N802
        error = self._begin("cudaStreamEndCapture")
        if int(stream) not in self.capturing:
            raise BrokenRuleError("no capture to end")
        work = self.capturing.pop(int(stream))
        if error:
            return error, Handle("no graph", 0)
        if int(stream) in self.invalidated:
            self.invalidated.discard(int(stream))
            return self.cudaError_t.cudaErrorStreamCaptureInvalidated, Handle("no graph", 0)
        graph = Handle("graph", self._next)
        self._next += 1
        graph.work = [(stream, work)]
        self.handles[graph.number] = graph
        return SUCCESS, graph

    def cudaGraphInstantiate(self, graph, flags):  # noqa: N802
        if not self.sticky:
            self.known(graph, "graph")
        error, launchable = self._make("cudaGraphInstantiate", "launchable")
        if not error:
            launchable.work = list(graph.work)
        return error, launchable

    def cudaGraphDestroy(self, graph):  # noqa: N802
        return self._end("cudaGraphDestroy", "graph", graph)

    def cudaGraphExecDestroy(self, launchable):  # noqa: N802
        return self._end("cudaGraphExecDestroy", "launchable", launchable)

    def cudaGraphLaunch(self, launchable, stream):  # noqa: N802
        error = self._begin("cudaGraphLaunch")
        if error:
            return (error,)
        self.known(launchable, "launchable")
        self.known(stream, "stream")
        if int(stream) in self.capturing:
            raise BrokenRuleError("a graph launched while its stream captures")
        ((captured_on, work),) = launchable.work
        if captured_on is not stream:
            raise BrokenRuleError("a graph launched on another stream than it was captured on")
        for part in work:
            part()
        return (SUCCESS,)


class RecordingTensorRt:
    """Stands in for the module ``tensorrt`` or ``tensorrt_rtx``.

    Its network adds one to the image's first byte and puts that into the first score.
    """

    def __init__(
        self, cuda: RecordingCuda, tensors: Mapping[str, TensorSpec], version: str = "10.3"
    ) -> None:
        """Describe the engine's tensors, on a recorded GPU."""
        self.cuda, self.tensors, self.__version__ = cuda, tensors, version
        self.calls: list[str] = []
        self.failures: dict[int, tuple[Any, str]] = {}  # index -> what is returned, what is logged
        self.kernels_read: list[bytes] = []

        class ILogger:
            ERROR = 1

            def __init__(self) -> None:
                pass

        self.ILogger = ILogger
        self.logger: Any = None

    def fail_call(self, index: int, result: Any, logged: str) -> None:
        """Have the call of this index, counted from 0, give a result, and log why."""
        self.failures[index] = (result, logged)

    def begin(self, name: str, default: Any = None) -> tuple[bool, Any]:
        """Record a call; return whether it fails, and its result."""
        index = len(self.calls)
        self.calls.append(name)
        if index in self.failures:
            result, logged = self.failures[index]
            if logged:
                self.logger.log(1, logged)
            return True, result
        return False, default

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        failed, _ = self.begin("Runtime")
        if failed:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return _Runtime(self)


class _Runtime:
    def __init__(self, trt: RecordingTensorRt) -> None:
        self.trt = trt

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        failed, _ = self.trt.begin("deserialize_cuda_engine")
        return None if failed else _Engine(self.trt)


class _Engine:
    device_memory_size_v2 = 5 << 20

    def __init__(self, trt: RecordingTensorRt) -> None:
        self.trt, self.num_io_tensors = trt, len(trt.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.trt.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=TRT_NAMES[self.trt.tensors[name].dtype])

    def get_tensor_shape(self, name: str) -> tuple[object, ...]:
        return self.trt.tensors[name].shape

    def create_runtime_config(self) -> Any:
        return _RuntimeConfig(self.trt)

    def create_execution_context(self, config: Any = None) -> Any:
        failed, _ = self.trt.begin("create_execution_context")
        return None if failed else _Context(self.trt)


class _RuntimeConfig:
    def __init__(self, trt: RecordingTensorRt) -> None:
        self.trt = trt

    def create_runtime_cache(self) -> Any:
        return _RuntimeCache(self.trt)

    def set_runtime_cache(self, cache: Any) -> bool:
        return True


class _RuntimeCache:
    def __init__(self, trt: RecordingTensorRt) -> None:
        self.trt = trt

    def deserialize(self, content: bytes) -> bool:
        self.trt.kernels_read.append(content)
        return True

    def serialize(self) -> bytes:
        return b"kernels"


class _Context:
    def __init__(self, trt: RecordingTensorRt) -> None:
        self.trt, self.addresses = trt, {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        failed, _ = self.trt.begin("set_tensor_address")
        if failed:
            return False
        spec, cuda = self.trt.tensors[name], self.trt.cuda
        cuda.check_memory(address, _size(spec), ("device memory", "mapped memory"))
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_number: int) -> bool:
        cuda = self.trt.cuda
        failed, _ = self.trt.begin("execute_async_v3")
        stream = cuda.handles[stream_number]
        if failed:
            if stream_number in cuda.capturing:
                cuda.invalidated.add(stream_number)
            return False
        if set(self.addresses) != set(self.trt.tensors):
            raise BrokenRuleError("executed before every tensor has an address")
        cuda.submit(stream, self._network)
        return True

    def _network(self) -> None:
        for name, address in self.addresses.items():
            spec = self.trt.tensors[name]
            self.trt.cuda.check_memory(address, _size(spec), ("device memory", "mapped memory"))
        pixel = ctypes.c_ubyte.from_address(self.addresses["image"]).value
        ctypes.c_float.from_address(self.addresses["scores"]).value = pixel + 1.0


def _size(spec: TensorSpec) -> int:
    return int(np.prod([int(str(n)) for n in spec.shape])) * np.dtype(spec.dtype).itemsize
