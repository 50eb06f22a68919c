import json

import pytest

from amodal_perception.errors import EngineError, GpuLostError, GpuMemoryError
from amodal_perception.ros.worker import GuardedRuntime, is_out_of_memory
from amodal_perception.runtime.tensorrt import gpu
from amodal_perception.runtime.tensorrt.gpu import checked
from amodal_perception.runtime.tensorrt.layer_types import inspected_types

cuda = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
Error = cuda.cudaError_t


def test_what_a_call_gives():
    assert checked((Error.cudaSuccess, 7), "counting") == 7
    assert checked((Error.cudaSuccess,), "counting") == ()
    assert checked((Error.cudaSuccess, 1, 2), "counting") == (1, 2)


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
        checked((error, None), "copying")
    assert type(caught.value) is kind
    assert is_out_of_memory(caught.value) == (kind is GpuMemoryError)


def test_every_sticky_error_exists():
    assert {name for name in gpu.STICKY | gpu.OUT_OF_MEMORY if not hasattr(Error, name)} == set()


def test_a_machine_without_gpu_has_no_capability():
    error, count = cuda.cudaGetDeviceCount()
    has_gpu = error == Error.cudaSuccess and count > 0
    assert (gpu.compute_capability() is not None) == has_gpu


def test_types_in_an_inspectors_words():
    information = {
        "Layers": [
            {"Name": "conv", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
            {"Name": "add", "Outputs": [{"Format/Datatype": "Channel major FP32"}]},
            {"Name": "none", "Outputs": []},
            "without details",
        ]
    }
    assert inspected_types(json.dumps(information)) == {"conv": "float16", "add": "float32"}


@pytest.mark.parametrize("kind", [GpuLostError, EngineError])
def test_the_node_hears_that_the_gpu_is_lost(kind):
    class Failing:
        metadata = None

        def __call__(self, image):
            raise kind("running the engine: cudaErrorIllegalAddress")

    with pytest.raises(EngineError, match=r"the engine failed: .*IllegalAddress") as caught:
        GuardedRuntime(Failing())(None)
    assert type(caught.value) is kind
