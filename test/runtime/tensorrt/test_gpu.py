import pytest

from amodal_perception.errors import EngineError, GpuLostError, GpuMemoryError
from amodal_perception.ros.inference_thread import is_out_of_memory
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt.gpu import check_cuda

cuda = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
Error = cuda.cudaError_t


def test_what_a_call_gives():
    assert check_cuda((Error.cudaSuccess, 7), "counting") == 7
    assert check_cuda((Error.cudaSuccess,), "counting") == ()
    assert check_cuda((Error.cudaSuccess, 1, 2), "counting") == (1, 2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Error.cudaErrorMemoryAllocation, GpuMemoryError),
        (Error.cudaErrorIllegalAddress, GpuLostError),
        (Error.cudaErrorLaunchFailure, GpuLostError),
        (Error.cudaErrorECCUncorrectable, GpuLostError),
        (Error.cudaErrorInvalidValue, EngineError),
    ],
)
def test_failures_are_told_apart(error, kind):
    with pytest.raises(kind, match=f"copying: .*{error.name}") as caught:
        check_cuda((error, None), "copying")
    assert type(caught.value) is kind
    assert is_out_of_memory(caught.value) == (kind is GpuMemoryError)


def test_every_sticky_error_exists():
    assert {name for name in gpu.STICKY | gpu.OUT_OF_MEMORY if not hasattr(Error, name)} == set()


def test_a_machine_without_gpu_has_no_capability():
    error, count = cuda.cudaGetDeviceCount()
    has_gpu = error == Error.cudaSuccess and count > 0
    assert (gpu.compute_capability() is not None) == has_gpu
