"""Every way in which a GPU cannot be used has a line of its own, with what mends it."""

import sys

import pytest
from helpers.recording_cuda import Device, RecordingCuda

from amodal_perception.errors import EngineError, GpuLostError, GpuMemoryError, GpuUnavailableError
from amodal_perception.ros.inference_thread import is_out_of_memory
from amodal_perception.runtime.tensorrt import cuda as cuda_module
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt.cuda import Cuda, load_binding
from amodal_perception.runtime.tensorrt.cuda_errors import (
    DRIVER_TOO_OLD,
    FAULTS,
    OUT_OF_MEMORY,
    STICKY,
    failure,
    logged_error,
)
from amodal_perception.runtime.tensorrt.gpu import find_gpu

binding = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
Error = binding.cudaError_t


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cudaErrorMemoryAllocation", GpuMemoryError),
        ("cudaErrorIllegalAddress", GpuLostError),
        ("cudaErrorLaunchFailure", GpuLostError),
        ("cudaErrorECCUncorrectable", GpuLostError),
        ("cudaErrorInvalidValue", EngineError),
    ],
)
def test_failures_are_told_apart(name, kind):
    error = failure(name, "copying")
    assert type(error) is kind
    assert str(error).startswith("copying: ")
    assert name in str(error)
    assert is_out_of_memory(error) == (kind is GpuMemoryError)


def test_every_error_that_is_named_exists():
    named = {*STICKY, *OUT_OF_MEMORY, *FAULTS, *DRIVER_TOO_OLD}
    assert {name for name in named if not hasattr(Error, name)} == set()


def refused(cuda):
    with pytest.raises(GpuUnavailableError) as caught:
        find_gpu("", Cuda(cuda))
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.parametrize("call", [2, 3])
def test_each_fault_has_its_line(name, call, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cuda = RecordingCuda(Error, driver=12040, runtime=12060)
    cuda.fail_call(call, name)
    wrong, remedy = FAULTS[name]
    versions = "driver for CUDA 12.4, bindings for CUDA 12.6"
    assert refused(cuda) == f"{wrong} ({name}; {versions}): {remedy}"


def test_a_fault_of_no_known_remedy_keeps_its_name():
    cuda = RecordingCuda(Error)
    cuda.fail_call(2, "cudaErrorInvalidKernelImage")
    assert refused(cuda).startswith("CUDA refuses (cudaErrorInvalidKernelImage; driver for")


def test_a_driver_that_is_too_old_or_missing():
    cuda = RecordingCuda(Error, driver=12060, runtime=13050)
    cuda.fail_call(2, "cudaErrorInsufficientDriver")
    line = refused(cuda)
    assert (
        "too old for the CUDA runtime (cudaErrorInsufficientDriver; driver for CUDA 12.6, " in line
    )
    assert "bindings for CUDA 13.5): pip install 'cuda-bindings==12.*'" in line
    cuda = RecordingCuda(Error, driver=0, runtime=13050)
    cuda.fail_call(2, "cudaErrorInsufficientDriver")
    line = refused(cuda)
    assert line.startswith("no NVIDIA driver is here (cudaErrorInsufficientDriver; no driver, ")
    assert "sudo ubuntu-drivers install" in line
    assert "--gpus all" in line


def test_gpus_that_are_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    cuda = RecordingCuda(Error)
    cuda.fail_call(2, "cudaErrorNoDevice")
    assert "CUDA_VISIBLE_DEVICES='7' lets it see (cudaErrorNoDevice" in refused(cuda)
    assert "unset CUDA_VISIBLE_DEVICES" in refused(RecordingCuda(Error, devices=()))


def test_bindings_that_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    monkeypatch.setattr(cuda_module, "driver_version", lambda: 12060)
    with pytest.raises(GpuUnavailableError) as caught:
        load_binding()
    line = str(caught.value)
    assert "bindings do not load (" in line
    assert "; driver for CUDA 12.6): pip install 'cuda-bindings==12.*'" in line
    monkeypatch.setattr(cuda_module, "driver_version", lambda: 0)
    assert gpu.problem().endswith("; no driver): pip install 'cuda-bindings'")


def test_a_binding_that_lacks_a_function():
    cuda = RecordingCuda(Error)
    cuda.cudaGetDeviceCount = lambda: (_ for _ in ()).throw(RuntimeError("not found"))
    assert "cudaGetDeviceCount is not to be had (not found) (driver for" in refused(cuda)


def test_a_gpu_is_described():
    found = find_gpu("", Cuda(RecordingCuda(Error, (Device(integrated=1),))))
    assert found.uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert (found.compute_capability, found.multiprocessors, found.is_integrated) == (86, 28, True)
    words = "NVIDIA Recorded (12.0 GiB, compute capability 86, 28 multiprocessors)"
    assert str(found) == words


def test_this_machine():
    error, count = binding.cudaGetDeviceCount()
    has_gpu = error == Error.cudaSuccess and count > 0
    assert (gpu.problem() == "") == has_gpu
    if error != Error.cudaSuccess:
        assert error.name in gpu.problem()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Cuda Runtime (In f at f.cpp:25 (cudaError 35: CUDA driver version is ins))", 35),
        ("Error Code 1: Cuda Runtime (out of memory)", 2),
        ("Error Code 2: OutOfMemory (Requested size was 5 bytes.)", 2),
        ("Error Code 4: Internal Error (Engine deserialization failed.)", 0),
    ],
)
def test_what_tensorrt_logs_of_cuda(text, number):
    assert logged_error(text) == number
