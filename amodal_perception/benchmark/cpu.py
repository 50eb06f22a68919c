"""The CPU's name and other entries of ``/proc/cpuinfo``."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_name() -> str:
    """Return the CPU's name, as well as the system knows it."""
    return cpu_info("model name") or platform.processor()


def cpu_info(name: str) -> str:
    """Return an entry of ``/proc/cpuinfo`` for the first CPU; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    values = (
        line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name
    )
    return next(values, "")
