"""Choose a software OpenGL (EGL, OSMesa) for MuJoCo, which reads MUJOCO_GL when imported."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec

from amodal_perception.errors import AmodalError

_PROBE = "import mujoco; mujoco.GLContext(16, 16).make_current()"


@cache
def choose_renderer() -> None:
    """Set MUJOCO_GL to a renderer that works here, the faster first; keep a user's choice.

    Call it before MuJoCo is imported. It sets LP_NUM_THREADS to 1 as well: scenes are rendered in
    one process per core, so threads inside a renderer would only get in each other's way.

    Raises:
        AmodalError: there is no software OpenGL; names the Debian packages.
    """
    if find_spec("mujoco") is None:
        raise AmodalError(
            "simulation needs the Python package mujoco: make training, or pip install it"
        )
    os.environ["LP_NUM_THREADS"] = "1"
    chosen = os.environ.get("MUJOCO_GL")
    for name in (chosen,) if chosen else ("egl", "osmesa"):
        # In a process of its own: a driver that does not work may crash.
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": name},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise AmodalError(
        f"no OpenGL for MuJoCo (tried MUJOCO_GL={chosen or 'egl and osmesa'}); install software "
        "OpenGL: apt-get install libegl1 libgl1-mesa-dri libosmesa6"
    )
