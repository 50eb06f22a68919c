"""What is timed against each other: each in a process of its own, one turn at a time.

So no engine's waiting threads disturb another, memory can be told apart, and whatever else happens
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

from amodal_perception.benchmark.fixed_objects import Crowded, jpeg_messages, make_crowd
from amodal_perception.benchmark.flops import count_flops
from amodal_perception.conversions.images import message_to_frame
from amodal_perception.conversions.scenes import MessageTypes, scene_to_msg
from amodal_perception.errors import AmodalError, ConfigError
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.jobs import ModelSettings
from amodal_perception.storage.amodal_coco import Json

SCENE_TYPE = "amodal_perception/msg/AmodalScene"
PRODUCT_SIZE = 1536
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
NO_WAITING = {"OPENBLAS_THREAD_TIMEOUT": "4"}
"""Lets OpenBLAS's threads sleep after a product; else they are busy for some 20 ms of the next."""

Turn = Callable[[], dict[str, float]]
"""Does one turn of work and returns milliseconds by stage, or other figures by name."""


class Contestant:
    """A process that takes turns when asked.

    Attributes:
        facts: what it said of itself when it was ready.
    """

    def __init__(self, build: Callable[..., tuple[Turn, Json]], *arguments: Any) -> None:
        """Start the process and wait until it is ready.

        Args:
            build: makes the turn and the facts inside the process; a function of a module.
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

    def turn(self) -> dict[str, float]:
        """Let it work once, alone."""
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


def _work(build: Callable[..., tuple[Turn, Json]], arguments: tuple, pipe: Connection) -> None:
    try:
        turn, facts = build(*arguments)
        pipe.send(facts)
        while pipe.recv():
            pipe.send(turn())
        pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    except AmodalError as error:
        pipe.send(error)


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Give processes that start meanwhile so many threads for NumPy's matrix products."""
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


def model_turns(settings: ModelSettings, objects: int) -> tuple[Turn, Json]:
    """Take a JPEG message to a published scene.

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
    crowded = Pipeline(Crowded(pipeline.runtime, make_crowd(metadata, objects)), pipeline.config)
    types, publish, publisher = _open_publisher()
    numbers = itertools.count()

    def turn() -> dict[str, float]:
        message = messages[next(numbers) % len(messages)]
        started = time.perf_counter()
        frame = message_to_frame(message)
        decoded = time.perf_counter()
        scene = crowded(frame)
        seen = time.perf_counter()
        encoded_scene = scene_to_msg(scene, types)
        encoded = time.perf_counter()
        publish(encoded_scene)
        done = time.perf_counter()
        return {
            "decode": (decoded - started) * 1e3,
            **scene.stages_ms,
            "encode": (encoded - seen) * 1e3,
            "publish": (done - encoded) * 1e3,
        }

    turn()
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
    return turn, facts


def torchvision_turns(
    input_hw: tuple[int, int], instances: int, classes: int, num_threads: int
) -> tuple[Turn, Json]:
    """See an image with torchvision's Mask R-CNN R50-FPN, random weights: speed needs no training.

    Random weights find nothing, so its thresholds are opened: it always returns `instances`
    objects, and pays for their masks as ours does.
    """
    try:
        import torch
        from torchvision.models.detection import maskrcnn_resnet50_fpn
    except ImportError as error:
        raise ConfigError(
            f"peer torchvision needs torch and torchvision ({error}); pip install them"
        ) from None
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes + 1,
        min_size=min(input_hw),
        max_size=max(input_hw),
        box_score_thresh=0.0,
        box_nms_thresh=1.0,
        box_detections_per_img=instances,
    ).eval()
    image = message_to_frame(jpeg_messages()[0]).image

    def see() -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
            return model([tensor])[0]

    def turn() -> dict[str, float]:
        started = time.perf_counter()
        see()
        return {"see": (time.perf_counter() - started) * 1e3}

    return turn, {"instances": len(see()["masks"])}


def product_turns() -> tuple[Turn, Json]:
    """Multiply matrices with NumPy: the most arithmetic that this machine does in a second."""
    a = np.random.default_rng(0).random((PRODUCT_SIZE,) * 2, np.float32)

    def turn() -> dict[str, float]:
        started = time.perf_counter()
        a @ a
        return {"gflops": 2e-9 * PRODUCT_SIZE**3 / (time.perf_counter() - started)}

    turn()
    return turn, {}


def _open_publisher() -> tuple[MessageTypes, Callable[[Any], object], str]:
    """Return message classes, what publishes a scene made of them, and its name."""
    if find_spec("amodal_perception.msg") is not None and find_spec("rclpy") is not None:
        from amodal_perception.ros.scene_publisher import ScenePublisher

        return MessageTypes.from_ros(), ScenePublisher("amodal_bench"), "DDS"
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = MessageTypes.from_typestore(typestore)
    return types, lambda message: typestore.serialize_cdr(message, SCENE_TYPE), "serialisation"


def _gflop(settings: ModelSettings) -> float | None:
    """Return the arithmetic of one image, 1e9 operations; None where it cannot be told."""
    if settings.path.suffix != ".onnx" or find_spec("onnx") is None:
        return None
    import onnx

    return round(count_flops(onnx.load(settings.path)) * 1e-9, 3)


def _resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
