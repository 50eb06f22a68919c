"""The inference thread: it loads the model, runs it on the newest image, and frees it."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from amodal_perception.errors import EngineError, GpuLostError, one_line
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.depth import BoundDepth
from amodal_perception.ros.latest_slot import LatestSlot
from amodal_perception.runtime import ModelMetadata, RawDetections, Runtime
from amodal_perception.structures import Scene, UInt8Array

POLL_S = 0.05
OUT_OF_MEMORY = ("out of memory", "bad_alloc", "failed to allocate", "bfcarena")


@dataclass(frozen=True, eq=False)
class Arrival:
    """An image message waiting for inference.

    Attributes:
        message: the image message; bytes where it is still serialised.
        received_s: ``time.monotonic()`` at its arrival.
        answer: for the caller of a service, its scene; None for the camera's images.
        depth: what of a depth camera belongs to it; None where there is none.
    """

    message: Any
    received_s: float = field(default_factory=time.monotonic)
    answer: Future[Scene] | None = None
    depth: BoundDepth | None = None


class GuardedRuntime:
    """A runtime that raises `EngineError` for every failure, and retries once out of memory.

    Memory that ran out may be back a moment later. Whether anything else helps is for the owner to
    decide, by `failures_in_a_row`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.failures_in_a_row = 0
        self._busy_since_s: float | None = None

    @property
    def busy_s(self) -> float:
        """How long the present inference has taken, seconds; 0 when idle. From any thread."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def metadata(self) -> ModelMetadata:
        """The model's metadata."""
        return self._runtime.metadata

    @property
    def hardware(self) -> str:
        """What the engine runs on, in words."""
        return self._runtime.hardware

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the network; see `Runtime`.

        Raises:
            GpuLostError: it failed, and will from now on.
            EngineError: it failed.
        """
        self._busy_since_s = time.monotonic()
        try:
            try:
                raw = self._runtime(image)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                gc.collect()
                raw = self._runtime(image)
        except Exception as error:
            self.failures_in_a_row += 1
            kind = GpuLostError if isinstance(error, GpuLostError) else EngineError
            raise kind(f"the engine failed: {one_line(error)}") from error
        finally:
            self._busy_since_s = None
        self.failures_in_a_row = 0
        return raw


class InferenceThread:
    """A thread that loads a pipeline and runs it on the newest image."""

    def __init__(
        self, load: Callable[[], Pipeline], process: Callable[[Pipeline, Arrival], None]
    ) -> None:
        """Set up the thread; nothing runs before `start`.

        Args:
            load: makes the pipeline and warms it up.
            process: does everything for one image; must not raise.
        """
        self._load, self._process = load, process
        self._slot: LatestSlot[Arrival] = LatestSlot()
        self._loaded: Future[ModelMetadata] = Future()
        self._runtime: GuardedRuntime | None = None
        # A daemon: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="amodal inference", daemon=True)

    @property
    def busy_s(self) -> float:
        """How long the present inference has taken, seconds; 0 when idle."""
        runtime = self._runtime
        return 0.0 if runtime is None else runtime.busy_s

    @property
    def hardware(self) -> str:
        """What the engine runs on, in words; empty before it is loaded."""
        runtime = self._runtime
        return "" if runtime is None else runtime.hardware

    def start(self, is_wanted: Callable[[], bool]) -> ModelMetadata | None:
        """Load the pipeline; wait until that is done.

        Args:
            is_wanted: polled, so that an interrupt need not wait for the model.

        Returns:
            The model's metadata; None when it was not wanted any more.

        Raises:
            Exception: what `load` raised.
        """
        self._thread.start()
        while not self._loaded.done():
            if not is_wanted():
                return None
            self._thread.join(POLL_S)
            if not self._thread.is_alive():
                break
        return self._loaded.result()

    def put(self, arrival: Arrival) -> bool:
        """Submit a camera's image; return whether it replaced one that waited."""
        return self._slot.put(arrival)

    def put_urgent(self, message: Any) -> Future[Scene] | None:
        """Submit an image to go first; None when too many such wait already."""
        arrival = Arrival(message, answer=Future())
        return arrival.answer if self._slot.put_urgent(arrival) else None

    def clear(self) -> None:
        """Drop the image that waits."""
        self._slot.clear()

    def stop(self, timeout_s: float) -> bool:
        """End the thread and free the model; return whether it ended in time."""
        for arrival in self._slot.close():
            if arrival.answer is not None and arrival.answer.set_running_or_notify_cancel():
                arrival.answer.set_exception(EngineError("the node stopped"))
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            pipeline = self._load()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        assert isinstance(pipeline.runtime, GuardedRuntime)
        self._runtime = pipeline.runtime
        self._loaded.set_result(pipeline.runtime.metadata)
        while (arrival := self._slot.take()) is not None:
            answer = arrival.answer
            if answer is not None and not answer.set_running_or_notify_cancel():
                continue  # the caller has given up
            try:
                self._process(pipeline, arrival)
            except Exception:  # against the agreement, but no reason to fall silent
                traceback.print_exc()
            del arrival, answer  # a large message must not live on while nothing arrives
        self._runtime = None  # freed in this thread, with `pipeline`


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means out of memory; runtimes have no common class for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
