"""Simulation tests render for real; without software OpenGL they are skipped, saying why."""

from importlib.util import find_spec

import pytest


@pytest.fixture(scope="session")
def opengl():
    if find_spec("mujoco") is None:  # not imported yet: MUJOCO_GL is to be set first
        pytest.skip("mujoco is not installed")
    from amodal_perception.errors import AmodalError
    from training.sim.gl import choose_renderer

    try:
        choose_renderer()
    except AmodalError as error:
        pytest.skip(str(error))
