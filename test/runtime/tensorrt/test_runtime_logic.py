"""Our logic around CUDA and TensorRT, on stand-ins that record calls and enforce the rules.

This is no test of TensorRT, nor of a GPU: see ``scripts/gpu_check`` for that.
"""

import gc
import inspect
import threading

import numpy as np
import pytest
from helpers.recorded_engines import INPUT_HW, Machine, write_engine
from helpers.recording_cuda import FREEING, BrokenRuleError, Device, RecordingCuda

from amodal_perception.errors import (
    AmodalError,
    ConfigError,
    EngineError,
    GpuLostError,
    GpuMemoryError,
    GpuUnavailableError,
    ModelFileError,
)
from amodal_perception.runtime.tensorrt.cuda_errors import OUT_OF_MEMORY, STICKY
from amodal_perception.runtime.tensorrt.runtime_cache import runtime_cache_path

binding = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
Error = binding.cudaError_t
ERRORS = sorted({error.name for error in Error} - {"cudaSuccess"})
DESKTOP, JETSON = Device(), Device(name=b"NVIDIA Recorded", integrated=1)
FINDING = (
    "cudaDriverGetVersion",
    "cudaRuntimeGetVersion",
    "cudaGetDeviceCount",
    "cudaGetDeviceProperties",
)


@pytest.fixture
def path(tmp_path):
    return write_engine(tmp_path / "m.engine")


def image(value):
    return np.full((1, *INPUT_HW, 3), value, np.uint8)


def score(runtime, value):
    return float(runtime(image(value)).scores[0])


def kind_of(name):
    """Return the exception that a call's error must become while an engine is loaded or run."""
    if name in OUT_OF_MEMORY:
        return GpuMemoryError
    return GpuLostError if name in STICKY else EngineError


@pytest.mark.parametrize("device", [DESKTOP, JETSON], ids=["desktop", "integrated"])
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_each_frame_has_its_own_result_and_all_is_freed(tmp_path, monkeypatch, device, backend):
    machine = Machine(monkeypatch, Error, (device,), backend)
    runtime = machine.load(write_engine(tmp_path / "m.engine", backend))
    assert runtime.hardware.startswith("NVIDIA Recorded (12.0 GiB")
    assert [score(runtime, value) for value in (3, 200, 7)] == [4.0, 201.0, 8.0]
    machine.cuda.calls.clear()
    runtime(image(0))
    frame = ["cudaSetDevice", "cudaGraphLaunch", "cudaEventRecord", "cudaEventSynchronize"]
    assert machine.cuda.calls == frame
    del runtime
    assert machine.cuda.left() == []


def test_an_integrated_gpu_copies_nothing(path, monkeypatch):
    machine = Machine(monkeypatch, Error, (JETSON,))
    runtime = machine.load(path)
    assert score(runtime, 9) == 10.0
    assert not {"cudaMemcpyAsync", "cudaMalloc"} & set(machine.cuda.calls)
    assert runtime.hardware


def expected_while_loading(name, error, is_capturing):
    if name in FINDING:
        return GpuUnavailableError
    if error in STICKY:
        return GpuLostError
    if is_capturing or name in FREEING:
        return None  # goes on without a graph
    return kind_of(error)


@pytest.mark.parametrize("device", [DESKTOP, JETSON], ids=["desktop", "integrated"])
@pytest.mark.timeout(600)
def test_every_call_fails_once_with_every_error_while_loading(path, monkeypatch, device):
    machine = Machine(monkeypatch, Error, (device,))
    machine.load(path)
    calls = list(machine.cuda.calls)
    gc.collect()
    begins = calls.index("cudaStreamBeginCapture")
    # After the last allocation nothing of a kind is called twice in a row but for its memory.
    ends = begins + calls[begins:].index("cudaEventSynchronize")
    assert ends > begins
    wrong = []
    for index, name in enumerate(calls[: ends + 1]):
        if index and name == calls[index - 1] == "cudaMemcpyAsync" and index < begins:
            continue  # the same call in the same state
        for error in ERRORS:
            machine = Machine(monkeypatch, Error, (device,))
            machine.cuda.fail_call(index, error)
            wanted = expected_while_loading(name, error, index >= begins)
            found = None
            try:
                runtime = machine.load(path)
                if score(runtime, 5) != 6.0:
                    wrong.append((index, name, error, "wrong result"))
                del runtime
            except AmodalError as raised:
                found, raised.__traceback__ = type(raised), None
            if found is not wanted:
                wrong.append((index, name, error, found))
            # A sticky error is met at the next call, whichever that is.
            if machine.cuda.left_quickly() or machine.cuda.capturing:
                wrong.append((index, name, error, machine.cuda.left()))
    assert wrong == []


@pytest.mark.parametrize("with_graph", [True, False])
def test_every_call_of_a_frame_fails_once_with_every_error(path, monkeypatch, with_graph):
    machine = Machine(monkeypatch, Error)

    def load():
        machine.__init__(monkeypatch, Error)
        if not with_graph:
            probe = machine.load(path)
            begins = machine.cuda.calls.index("cudaStreamBeginCapture")
            del probe
            machine.__init__(monkeypatch, Error)
            machine.cuda.fail_call(begins, "cudaErrorStreamCaptureUnsupported")
        return machine.load(path)

    runtime = load()
    before = len(machine.cuda.calls)
    runtime(image(1))
    calls = machine.cuda.calls[before:]
    for offset, name in enumerate(calls):
        for error in ERRORS:
            runtime = load()
            machine.cuda.fail_call(len(machine.cuda.calls) + offset, error)
            with pytest.raises(EngineError) as caught:
                runtime(image(5))
            assert type(caught.value) is kind_of(error), (name, error)
            assert error in str(caught.value)
            if error in STICKY:
                with pytest.raises(GpuLostError, match=error):
                    runtime(image(5))
            else:
                assert score(runtime, 5) == 6.0
            caught.value.__traceback__ = None
            del runtime, caught
            assert machine.cuda.left_quickly() == []


REASONS = [
    ("", None),
    ("Error Code 1: Cuda Runtime (In x at y:25 (cudaError 2: out of memory))", GpuMemoryError),
    ("Error Code 2: OutOfMemory (Requested size was 5 bytes.)", GpuMemoryError),
    ("Error Code 1: Cuda Runtime (cudaError 719: unspecified launch failure)", GpuLostError),
    ("Error Code 1: Cuda Runtime (cudaError 35: driver version is insufficient)", EngineError),
]


@pytest.mark.parametrize(("logged", "kind"), REASONS)
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_every_call_of_tensorrt_fails_once_while_loading(
    tmp_path, monkeypatch, backend, logged, kind
):
    path = write_engine(tmp_path / "m.engine", backend)
    machine = Machine(monkeypatch, Error, backend=backend)
    machine.load(path)
    calls = list(machine.trt.calls)
    first_run = calls.index("execute_async_v3")
    for index, name in enumerate(calls):
        machine = Machine(monkeypatch, Error, backend=backend)
        machine.trt.fail_call(index, None, logged)
        is_capturing = index > first_run
        wanted = kind or (ModelFileError if name == "deserialize_cuda_engine" else EngineError)
        if is_capturing and wanted is not GpuLostError:
            runtime = machine.load(path)
            assert score(runtime, 5) == 6.0
            del runtime
        else:
            with pytest.raises(AmodalError) as caught:
                machine.load(path)
            assert type(caught.value) is wanted, name
            caught.value.__traceback__ = None
            del caught
        assert machine.cuda.left() == []


def test_a_gpu_that_is_lost_is_not_taken_for_a_bad_file(path, monkeypatch):
    machine = Machine(monkeypatch, Error)
    machine.trt.fail_call(1, None, "Error Code 4: Internal Error")
    machine.cuda.failures = {}
    begin = machine.trt.begin

    def losing(name, default=None):
        if name == "deserialize_cuda_engine":
            machine.cuda.lose("cudaErrorECCUncorrectable")
        return begin(name, default)

    machine.trt.begin = losing
    with pytest.raises(GpuLostError, match="cudaErrorECCUncorrectable"):
        machine.load(path)


def test_without_memory_the_message_says_how_much(path, monkeypatch):
    machine = Machine(monkeypatch, Error)
    machine.trt.fail_call(2, None, "Requested size was 5 bytes: out of memory")
    with pytest.raises(GpuMemoryError, match=r"needs 5 MiB, free: 1024 MiB.*out of memory"):
        machine.load(path)


def test_work_that_cannot_be_captured_is_enqueued_and_that_is_said_once(path, monkeypatch, caplog):
    machine = Machine(monkeypatch, Error)
    machine.load(path)
    index = machine.cuda.calls.index("cudaStreamBeginCapture")
    machine = Machine(monkeypatch, Error)
    machine.cuda.fail_call(index, "cudaErrorStreamCaptureUnsupported")
    caplog.clear()
    runtime = machine.load(path)
    assert [score(runtime, value) for value in (1, 2, 3)] == [2.0, 3.0, 4.0]
    (record,) = caplog.records
    assert "m.engine: runs without a CUDA graph" in record.message
    assert "cudaErrorStreamCaptureUnsupported" in record.message
    assert "cudaGraphLaunch" not in machine.cuda.calls


def test_the_gpu_is_chosen_by_index_or_uuid_in_every_thread(path, monkeypatch):
    other = Device(name=b"NVIDIA Recorded", uuid=type("U", (), {"bytes": bytes([0xAB] * 16)})())
    machine = Machine(monkeypatch, Error, (DESKTOP, other))
    uuid = "GPU-abababab-abab-abab-abab-abababababab"
    for device, index in (("", 0), ("0", 0), ("1", 1), (uuid, 1), ("gpu-ab", 1)):
        runtime = machine.load(path, device)
        machine.cuda.in_use = 0
        thread = threading.Thread(target=runtime, args=(image(1),))
        thread.start()
        thread.join()
        assert machine.cuda.in_use == index
    for device, found in (("2", "no"), ("GPU-00", "no"), ("GPU-", "more than one")):
        if device == "GPU-00":
            continue
        with pytest.raises(ConfigError, match=f"is {found} GPU here: 0 = GPU-00010203-.*; 1 = "):
            machine.load(path, device)


def test_an_engine_of_another_gpu(tmp_path, monkeypatch, caplog):
    Machine(monkeypatch, Error).load(write_engine(tmp_path / "same.engine"))
    assert caplog.records == []
    machine = Machine(monkeypatch, Error)
    machine.load(write_engine(tmp_path / "unknown.engine", device_name="", multiprocessors=0))
    assert caplog.records == []
    machine.load(write_engine(tmp_path / "slow.engine", multiprocessors=10))
    (record,) = caplog.records
    assert "10 multiprocessors), and may be slow on NVIDIA Recorded (28); reb" in record.message
    with pytest.raises(ModelFileError, match="compute capability 89, but NVIDIA Recorded has 86"):
        machine.load(write_engine(tmp_path / "other.engine", compute_capability=89))
    assert machine.cuda.left() == []


class TestKernelsOfTensorRtForRtx:
    @pytest.fixture
    def path(self, tmp_path):
        return write_engine(tmp_path / "m.engine", "tensorrt-rtx")

    def load(self, monkeypatch, path):
        machine = Machine(monkeypatch, Error, backend="tensorrt-rtx")
        machine.load(path)
        return machine.trt.kernels_read

    def test_are_kept_beside_the_engine(self, monkeypatch, path):
        assert self.load(monkeypatch, path) == []
        assert runtime_cache_path(path).read_bytes().endswith(b"kernels")
        assert self.load(monkeypatch, path) == [b"kernels"]

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b + b"x"])
    def test_damaged_are_made_anew(self, monkeypatch, path, damage):
        self.load(monkeypatch, path)
        kernels = runtime_cache_path(path)
        whole = kernels.read_bytes()
        kernels.write_bytes(damage(whole))
        assert self.load(monkeypatch, path) == []
        assert kernels.read_bytes() == whole

    def test_of_another_engine_are_not_read(self, monkeypatch, path, tmp_path):
        self.load(monkeypatch, path)
        other = write_engine(tmp_path / "o.engine", "tensorrt-rtx")
        other.write_bytes(b"another engine")
        import hashlib

        digest = hashlib.sha256(b"another engine").hexdigest()
        write_engine(tmp_path / "o.engine", "tensorrt-rtx", engine_sha256=digest)
        other.write_bytes(b"another engine")
        runtime_cache_path(other).write_bytes(runtime_cache_path(path).read_bytes())
        assert self.load(monkeypatch, other) == []

    def test_that_others_can_write_are_not_read(self, monkeypatch, path, caplog):
        self.load(monkeypatch, path)
        runtime_cache_path(path).chmod(0o666)
        assert self.load(monkeypatch, path) == []
        assert "anybody can write to" in caplog.text
        runtime_cache_path(path).chmod(0o666)

    def test_that_cannot_be_kept_are_no_failure(self, monkeypatch, path, caplog):
        caplog.set_level("INFO")
        runtime_cache_path(path).mkdir()
        assert self.load(monkeypatch, path) == []
        assert "cannot be written" in caplog.text

    def test_tensorrt_itself_has_none(self, monkeypatch, tmp_path):
        path = write_engine(tmp_path / "t.engine", "tensorrt")
        Machine(monkeypatch, Error).load(path)
        assert not runtime_cache_path(path).exists()


def test_the_stand_in_takes_what_the_real_binding_takes():
    stand_in = RecordingCuda(Error)
    functions = [name for name in dir(stand_in) if name.startswith("cuda") and name[4].isupper()]
    functions = [n for n in functions if inspect.ismethod(getattr(stand_in, n))]
    assert len(functions) > 25
    for name in functions:
        real = inspect.signature(getattr(binding, name)).parameters
        assert len(real) == len(inspect.signature(getattr(stand_in, name)).parameters), name
    for name in ("cudaStreamNonBlocking", "cudaHostAllocDefault", "cudaHostAllocMapped"):
        assert getattr(binding, name) == getattr(stand_in, name), name
    for name in ("cudaEventBlockingSync", "cudaEventDisableTiming"):
        assert getattr(binding, name) == getattr(stand_in, name), name
    assert binding.cudaMemcpyKind.cudaMemcpyHostToDevice == 1
    assert binding.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal == 1


def test_the_stand_in_calls_exist_in_tensorrt():
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    for owner, names in (
        (trt.Runtime, ["deserialize_cuda_engine"]),
        (
            trt.ICudaEngine,
            ["num_io_tensors", "get_tensor_name", "get_tensor_dtype", "get_tensor_shape"],
        ),
        (trt.ICudaEngine, ["device_memory_size_v2", "create_runtime_config"]),
        (trt.ICudaEngine, ["create_execution_context"]),
        (trt.IRuntimeConfig, ["create_runtime_cache", "set_runtime_cache"]),
        (trt.IRuntimeCache, ["deserialize", "serialize"]),
        (trt.IExecutionContext, ["set_tensor_address", "execute_async_v3"]),
    ):
        assert [name for name in names if not hasattr(owner, name)] == []


class TestRulesOfTheStandIn:
    """It would catch us."""

    def test_freed_twice(self):
        cuda = RecordingCuda(Error)
        _, address = cuda.cudaMalloc(8)
        cuda.cudaFree(address)
        with pytest.raises(BrokenRuleError):
            cuda.cudaFree(address)

    def test_a_graph_on_another_stream(self):
        cuda = RecordingCuda(Error)
        _, stream = cuda.cudaStreamCreateWithFlags(1)
        _, other = cuda.cudaStreamCreateWithFlags(1)
        cuda.cudaStreamBeginCapture(stream, 1)
        with pytest.raises(BrokenRuleError):
            cuda.cudaStreamSynchronize(stream)
        _, graph = cuda.cudaStreamEndCapture(stream)
        _, launchable = cuda.cudaGraphInstantiate(graph, 0)
        with pytest.raises(BrokenRuleError):
            cuda.cudaGraphLaunch(launchable, other)
        assert sorted(cuda.left()) == ["graph", "launchable", "stream", "stream"]

    def test_a_sticky_error_stays(self):
        cuda = RecordingCuda(Error)
        cuda.fail_call(0, "cudaErrorIllegalAddress")
        assert cuda.cudaMalloc(8)[0] == Error.cudaErrorIllegalAddress
        assert cuda.cudaMalloc(8)[0] == Error.cudaErrorIllegalAddress
