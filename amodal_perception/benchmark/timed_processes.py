"""What the benchmark times: each in a process of its own, which work in alternation.

So no engine's waiting threads disturb another, memory is measured apart, and whatever else happens
on the machine hits all alike.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from amodal_perception.benchmark.fixed_objects import FixedObjects, jpeg_messages, make_objects
from amodal_perception.benchmark.flops import count_flops
from amodal_perception.conversions.images import message_to_frame
from amodal_perception.conversions.scenes import MessageTypes, scene_to_msg
from amodal_perception.errors import AmodalError
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.jobs import ModelSettings
from amodal_perception.storage.amodal_coco import Json

SCENE_TYPE = "amodal_perception/msg/AmodalScene"
PRODUCT_SIZE = 1536
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
NO_WAITING = {"OPENBLAS_THREAD_TIMEOUT": "4"}
"""Lets OpenBLAS's threads sleep after a product; else they are busy for some 20 ms of the next."""

Step = Callable[[], dict[str, float]]
"""Does one step of work and returns milliseconds by stage, or other figures by name."""


class TimedProcess:
    """A process that does one step of work when asked.

    Attributes:
        facts: what it said of itself when it was ready.
    """

    def __init__(self, build: Callable[..., tuple[Step, Json]], *arguments: Any) -> None:
        """Start the process and wait until it is ready.

        Args:
            build: makes the step and the facts inside the process; a function of a module.
            arguments: for it; they travel between processes.

        Raises:
            AmodalError: `build` raised it, or the process died.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(build, arguments, other), daemon=True)
        self._process.start()
        other.close()
        self.facts: Json = self._receive()

    def step(self) -> dict[str, float]:
        """Run one step."""
        self._pipe.send(True)
        return self._receive()

    def end(self) -> float:
        """End the process; return the most memory it used, MiB."""
        self._pipe.send(False)
        peak_mib = self._receive()
        self._process.join()
        return peak_mib

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise AmodalError("a process of the benchmark died; is memory short?") from None
        if isinstance(answer, AmodalError):
            raise answer
        return answer


def _work(build: Callable[..., tuple[Step, Json]], arguments: tuple, pipe: Connection) -> None:
    try:
        step, facts = build(*arguments)
        pipe.send(facts)
        while pipe.recv():
            pipe.send(step())
        pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    except AmodalError as error:
        pipe.send(error)


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Set the number of BLAS threads of processes that start meanwhile."""
    wanted = dict.fromkeys(BLAS_THREADS, str(count)) | NO_WAITING
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def model_steps(settings: ModelSettings, objects: int) -> tuple[Step, Json]:
    """Load a model; its step takes a JPEG message to a published scene.

    Where ROS and this package's messages are sourced, "publish" hands the scene to DDS, with
    nobody listening; elsewhere it only makes the bytes that would be sent.

    Args:
        settings: the model.
        objects: how many are in every image, whatever the model finds.
    """
    messages = jpeg_messages()
    before_mib = _resident_mib()
    pipeline = settings.load()
    metadata = pipeline.runtime.metadata
    runtime = FixedObjects(pipeline.runtime, make_objects(metadata, objects))
    run = Pipeline(runtime, pipeline.config)
    types, publish, publisher = _open_publisher()
    numbers = itertools.count()

    def step() -> dict[str, float]:
        message = messages[next(numbers) % len(messages)]
        started = time.perf_counter()
        frame = message_to_frame(message)
        decoded = time.perf_counter()
        scene = run(frame)
        inferred = time.perf_counter()
        encoded_scene = scene_to_msg(scene, types)
        encoded = time.perf_counter()
        publish(encoded_scene)
        done = time.perf_counter()
        return {
            "decode": (decoded - started) * 1e3,
            **scene.stages_ms,
            "message": (encoded - inferred) * 1e3,
            "publish": (done - encoded) * 1e3,
        }

    step()
    facts = {
        "model_id": metadata.model_id,
        "input_hw": list(metadata.input_hw),
        "instances": metadata.max_instances,
        "classes": len(metadata.class_names),
        "objects": min(objects, metadata.max_instances),
        "publisher": publisher,
        "gflop": _gflop(settings),
        "memory_mib": round(_resident_mib() - before_mib, 1),
    }
    return step, facts


def matrix_product_steps() -> tuple[Step, Json]:
    """Multiply matrices with NumPy (sgemm): the machine's peak arithmetic rate."""
    a = np.random.default_rng(0).random((PRODUCT_SIZE,) * 2, np.float32)

    def step() -> dict[str, float]:
        started = time.perf_counter()
        a @ a
        return {"gflops": 2e-9 * PRODUCT_SIZE**3 / (time.perf_counter() - started)}

    step()
    return step, {}


def _open_publisher() -> tuple[MessageTypes, Callable[[Any], object], str]:
    """Return message classes, what publishes a scene made of them, and its name."""
    if find_spec("amodal_perception.msg") is not None and find_spec("rclpy") is not None:
        from amodal_perception.ros.scene_publisher import ScenePublisher

        return MessageTypes.from_ros(), ScenePublisher("amodal_bench"), "DDS"
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = MessageTypes.from_typestore(typestore)
    return types, lambda message: typestore.serialize_cdr(message, SCENE_TYPE), "serialisation"


def _gflop(settings: ModelSettings) -> float | None:
    """Return the arithmetic of one image, 1e9 operations; None where it is unknown."""
    if settings.path.suffix != ".onnx" or find_spec("onnx") is None:
        return None
    import onnx

    return round(count_flops(onnx.load(settings.path)) * 1e-9, 3)


def _resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
