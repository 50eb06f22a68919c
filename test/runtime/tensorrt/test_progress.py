"""A build that is interrupted."""

import os
import signal

import pytest

from amodal_perception.runtime import DEFAULT_MODEL
from amodal_perception.runtime.tensorrt import build as build_module
from amodal_perception.runtime.tensorrt.build import BuildOptions, build_engine

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
RTX_86 = BuildOptions(backend="tensorrt-rtx", compute_capability=86)


def test_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    def monitor(backend, cancelled):
        made = make_monitor(backend, cancelled)
        start = made.phase_start

        class Interrupting(type(made)):
            def phase_start(self, phase_name, parent_phase, num_steps):
                start(phase_name, parent_phase, num_steps)
                if not interrupted:
                    interrupted.append(phase_name)
                    os.kill(os.getpid(), signal.SIGINT)

        return Interrupting()

    interrupted = []
    make_monitor = build_module.make_monitor
    monkeypatch.setattr(build_module, "make_monitor", monitor)
    out = tmp_path / "out" / "e.engine"
    # A shell that started the tests in the background has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(DEFAULT_MODEL, out, RTX_86)
    finally:
        signal.signal(signal.SIGINT, before)
    assert interrupted
    assert list(out.parent.iterdir()) == []
