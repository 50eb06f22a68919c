"""A progress bar for TensorRT's builder, which can also cancel the build."""

from __future__ import annotations

import threading
from typing import Any

from tqdm import tqdm

from amodal_perception.runtime.tensorrt.library import Backend


def make_monitor(backend: Backend, cancelled: threading.Event) -> Any:
    """Make a monitor with one bar, of all the steps that are known so far.

    TensorRT calls it from any of its threads. Phases are nested, and announce their steps when
    they begin, so the bar's total grows.

    Args:
        backend: whose builder.
        cancelled: once set, the build ends at its next step.
    """
    trt = backend.api

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._left: dict[str, int] = {}  # steps still to come, by phase
            self._bar = tqdm(total=0, desc="building", unit="step", delay=2, leave=False)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._left[phase_name] = num_steps
                self._bar.total += num_steps
                self._bar.set_postfix_str(phase_name.lower()[:40], refresh=False)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._left[phase_name] = self._left.get(phase_name, 1) - 1
                self._bar.update()
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._bar.update(max(self._left.pop(phase_name, 0), 0))

        def close(self) -> None:
            self._bar.close()

    return Monitor()
