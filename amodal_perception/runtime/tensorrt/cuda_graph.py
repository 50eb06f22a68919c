"""Record a frame's work as a CUDA graph, so that it costs one launch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from amodal_perception.errors import EngineError
from amodal_perception.runtime.tensorrt.cuda import Cuda


def capture(cuda: Cuda, stream: Any, enqueue: Callable[[], None]) -> Any:
    """Return a graph of what `enqueue` puts on the stream; its owner frees it.

    Whatever fails, the stream is out of capture afterwards and nothing is left.

    Raises:
        GpuLostError: the GPU is lost to this process.
        EngineError: this work cannot be captured; it can be enqueued all the same.
    """
    cuda.begin_capture(stream)
    try:
        enqueue()
    except BaseException:
        with suppress(EngineError):  # ending fails, too, but ends the capture
            graph = cuda.end_capture(stream)
            if int(graph):
                cuda.destroy_graph(graph)
        raise
    graph = cuda.end_capture(stream)
    try:
        return cuda.instantiate(graph)
    finally:
        cuda.destroy_graph(graph)  # the launchable is a copy
