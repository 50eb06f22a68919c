"""The thread that owns the engine: it loads it, runs it, and lets it go."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from amodal_perception.errors import EngineError, GpuLostError
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.latest_slot import Latest
from amodal_perception.runtime import ModelMetadata, RawDetections, Runtime
from amodal_perception.structures import Scene, UInt8Array

POLL_S = 0.05
OUT_OF_MEMORY = ("out of memory", "bad_alloc", "failed to allocate", "bfcarena")


@dataclass(frozen=True, eq=False)
class Arrival:
    """An image on its way to the engine.

    Attributes:
        message: the image message; bytes where it is still serialised.
        received_s: ``time.monotonic()`` at its arrival.
        answer: who asked for this image in particular; None for the camera's.
    """

    message: Any
    received_s: float = field(default_factory=time.monotonic)
    answer: Future[Scene] | None = None


class Engine:
    """A runtime whose failures are told apart from all others.

    Memory that ran out may be back a moment later, so the image is tried once more. Whether
    anything else helps is for the owner to judge, by the failures in a row.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.failures_in_a_row = 0
        self._busy_since_s: float | None = None

    @property
    def busy_s(self) -> float:
        """How long it has been at work on one image, seconds; 0 when idle. From any thread."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def metadata(self) -> ModelMetadata:
        """What the model file says of itself."""
        return self._runtime.metadata

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
            raise kind(f"the engine failed: {first_line(error)}") from error
        finally:
            self._busy_since_s = None
        self.failures_in_a_row = 0
        return raw


class Worker:
    """Runs one pipeline in a thread of its own, on the newest image."""

    def __init__(
        self, load: Callable[[], Pipeline], work: Callable[[Pipeline, Arrival], None]
    ) -> None:
        """Keep what to do; nothing runs before `start`.

        Args:
            load: makes the pipeline and warms it up.
            work: does everything for one image; must not raise.
        """
        self._load, self._work = load, work
        self._slot: Latest[Arrival] = Latest()
        self._loaded: Future[ModelMetadata] = Future()
        self._engine: Engine | None = None
        # A daemon: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="amodal worker", daemon=True)

    @property
    def busy_s(self) -> float:
        """How long the engine has been at work on one image, seconds; 0 when idle."""
        engine = self._engine
        return 0.0 if engine is None else engine.busy_s

    def start(self, is_wanted: Callable[[], bool]) -> ModelMetadata | None:
        """Load the pipeline; wait until that is done.

        Args:
            is_wanted: asked all the time, so that an interrupt need not wait for the engine.

        Returns:
            What the model says of itself; None when it was not wanted any more.

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
        """Hand over a camera's image; return whether it overtook another."""
        return self._slot.put(arrival)

    def ask(self, message: Any) -> Future[Scene] | None:
        """Have one image seen before all others; None when too many are waiting already."""
        arrival = Arrival(message, answer=Future())
        return arrival.answer if self._slot.put_urgent(arrival) else None

    def clear(self) -> None:
        """Forget the image that waits."""
        self._slot.clear()

    def stop(self, timeout_s: float) -> bool:
        """End the thread, and with it the engine; return whether it ended in time."""
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
        assert isinstance(pipeline.runtime, Engine)
        self._engine = pipeline.runtime
        self._loaded.set_result(pipeline.runtime.metadata)
        while (arrival := self._slot.take()) is not None:
            answer = arrival.answer
            if answer is not None and not answer.set_running_or_notify_cancel():
                continue  # whoever asked has given up
            try:
                self._work(pipeline, arrival)
            except Exception:  # against the agreement, but no reason to fall silent
                traceback.print_exc()
            del arrival, answer  # a large message must not live on while nothing arrives
        self._engine = None  # freed in this thread, with `pipeline`


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; engines have no common class for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)


def first_line(error: BaseException) -> str:
    """Say an error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
