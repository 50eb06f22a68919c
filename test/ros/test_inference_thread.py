"""Failures of the engine, as the inference thread tells them."""

import pytest

from amodal_perception.errors import EngineError, GpuLostError
from amodal_perception.ros.inference_thread import GuardedRuntime


@pytest.mark.parametrize("kind", [GpuLostError, EngineError])
def test_the_node_hears_that_the_gpu_is_lost(kind):
    class Failing:
        metadata = None

        def __call__(self, image):
            raise kind("running the engine: cudaErrorIllegalAddress")

    with pytest.raises(EngineError, match=r"the engine failed: .*IllegalAddress") as caught:
        GuardedRuntime(Failing())(None)
    assert type(caught.value) is kind
