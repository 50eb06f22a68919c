"""How many images of a camera reach the node, and how fast, by transport and settings of DDS."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
from helpers.paths import ROOT
from tqdm import tqdm

from gates.watch import Figure, percentile

IMAGES_PER_S = 30
SIZE_HW = 480, 640
SETTINGS_FILE = ROOT / "config" / "fastdds.xml"
LARGE_DATA = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}
LARGE_SEGMENT = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(SETTINGS_FILE)}


@dataclass(frozen=True)
class Case:
    """One way to send images.

    Attributes:
        name: to print.
        is_reliable: what the camera offers.
        is_compressed: JPEG instead of raw.
        environment: settings of both sides' middleware.
        depth: of the node's subscription; what exceeds it is overwritten by newer images.
        must_arrive: the documented settings must lose nothing.
    """

    name: str
    is_reliable: bool
    is_compressed: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    depth: int = 1
    must_arrive: bool = False


CASES = (
    Case("raw, reliable", is_reliable=True),
    Case("raw, best effort", is_reliable=False),
    Case("compressed, reliable", True, is_compressed=True),
    Case("compressed, best effort", False, is_compressed=True),
    Case("raw, reliable, depth 10", True, depth=10),
    Case("raw, reliable, depth 10, LARGE_DATA", True, environment=LARGE_DATA, depth=10),
    Case(
        "raw, reliable, depth 10, fastdds.xml",
        True,
        environment=LARGE_SEGMENT,
        depth=10,
        must_arrive=True,
    ),
    Case("raw, best effort, depth 10, fastdds.xml", False, environment=LARGE_SEGMENT, depth=10),
    Case("compressed, reliable, depth 10", True, is_compressed=True, depth=10, must_arrive=True),
)


def run(models, count: int) -> list[Figure]:
    """Run all cases, each in a process of its own: the middleware reads its settings once."""
    fresh = multiprocessing.get_context("spawn")
    figures = []
    for case in CASES:
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            received, latency_ms = process.submit(
                _measure, case, str(models.quick), count
            ).result()
        lost = count - received
        figures += [
            Figure(f"{case.name}: of {count} not received", lost, 0 if case.must_arrive else None),
            Figure(f"{case.name}: to inference, median, ms", percentile(latency_ms, 50)),
            Figure(f"{case.name}: to inference, 99 %, ms", percentile(latency_ms, 99)),
        ]
    return figures


def _measure(case: Case, model: str, count: int) -> tuple[int, list[float]]:
    """Return how many images the node received, and how long each scene's image was under way."""
    os.environ.update(case.environment)
    import rclpy
    from helpers.running_node import Camera, Monitor, node_process

    from amodal_perception.msg import AmodalScene

    rclpy.init(args=[])
    camera = Camera(rclpy)
    monitor = Monitor(camera)
    latency_ms: list[float] = []

    def receive(scene) -> None:
        stamp = scene.header.stamp
        if stamp.sec:
            age_ms = time.time() * 1e3 - stamp.sec * 1e3 - stamp.nanosec * 1e-6
            latency_ms.append(age_ms - sum(scene.stage_ms))

    camera.node.create_subscription(
        AmodalScene, "/amodal_perception/scene", receive, camera.reliable
    )
    rgb = cv2.resize(
        np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), SIZE_HW[::-1]
    )
    transport = "compressed" if case.is_compressed else "raw"
    topic = "/camera/image" + ("/compressed" if case.is_compressed else "")
    if case.is_compressed:
        message = camera.compressed(1, cv2.imencode(".jpg", rgb)[1].tobytes())
    else:
        message = camera.image(1, rgb)
    parameters = (
        f"model_file_path:={model}",
        f"image_transport:={transport}",
        f"qos_overrides.{topic}.subscription.depth:={case.depth}",
    )
    with node_process(*parameters, stderr=subprocess.DEVNULL):
        publisher = camera.node.create_publisher(
            type(message), topic, camera.reliable if case.is_reliable else camera.best_effort
        )
        reliability = "reliable" if case.is_reliable else "best_effort"
        camera.spin_until(publisher.get_subscription_count, "the node")
        monitor.wait_for_value("input", "reliability_asked", lambda asked: asked == reliability)
        camera.wait(2.0)
        before = int(monitor.values("input")["received"])
        due_s = time.monotonic()
        for _ in tqdm(range(count), case.name, unit="frame"):
            camera.wait(max(0.0, due_s - time.monotonic()))
            due_s += 1 / IMAGES_PER_S
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 10**9)
            publisher.publish(message)
        camera.wait(3.0)
        received = int(monitor.values("input")["received"]) - before
    rclpy.try_shutdown()
    return received, latency_ms
