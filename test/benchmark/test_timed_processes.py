"""Models timed in processes of their own."""

from __future__ import annotations

import os

import pytest

from amodal_perception.benchmark.timed_processes import BLAS_THREADS, TimedProcess, blas_threads
from amodal_perception.errors import AmodalError


def test_process_that_dies_is_told():
    with pytest.raises(AmodalError, match="a process of the benchmark died"):
        TimedProcess(os._exit, 3)


def test_threads_of_products_are_set_for_a_while(monkeypatch):
    monkeypatch.setenv(BLAS_THREADS[0], "7")
    monkeypatch.delenv(BLAS_THREADS[1], raising=False)
    with blas_threads(3):
        assert [os.environ[name] for name in BLAS_THREADS] == ["3"] * len(BLAS_THREADS)
    assert os.environ[BLAS_THREADS[0]] == "7"
    assert BLAS_THREADS[1] not in os.environ
