"""Ends in the middle of work, and starts after a crash."""

from __future__ import annotations

import signal
import subprocess
import time

import numpy as np
from helpers.onnx_models import ENDLESS
from helpers.running_node import PATIENCE_S, Camera, Monitor, node_process
from tqdm import tqdm

from gates.watch import Figure, percentile

END_LIMIT_S = 3.0
RECOVERY_LIMIT_S = 15.0


def run_interrupts(ros, models, count: int) -> list[Figure]:
    """Interrupt nodes whose engine is busy, and time their ends."""
    camera = Camera(ros)
    busy = np.full((48, 64, 3), ENDLESS, np.uint8)
    times_s, bad_codes = [], 0
    for number in tqdm(range(1, count + 1), "interrupts", unit=""):
        monitor = Monitor(camera, f"n{number}/amodal_perception")
        # A name of its own: what an earlier node said must not be taken for this one's.
        with node_process(
            f"model_file_path:={models.moody}",
            "lazy:=false",
            "engine_timeout:=0.0",
            remap=f"__ns:=/n{number}",
            stderr=subprocess.DEVNULL,
        ) as process:
            publisher = camera.node.create_publisher(
                camera.image_type, f"/n{number}/image", camera.reliable
            )
            camera.spin_until(publisher.get_subscription_count, "the node")
            publisher.publish(camera.image(number, busy))
            monitor.wait_for_value("engine", "busy_s", lambda seconds: float(seconds) > 0)
            started_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            times_s.append(time.monotonic() - started_s)
            bad_codes += process.returncode != 0
            camera.node.destroy_publisher(publisher)
            monitor.close()
    camera.node.destroy_node()
    return [
        Figure("interrupts in the middle of an inference", count),
        Figure("exit codes other than 0", bad_codes, limit=0),
        Figure("time to end, median, s", percentile(times_s, 50)),
        Figure("time to end, longest, s", max(times_s), limit=END_LIMIT_S),
    ]


def run_kills(ros, models, count: int) -> list[Figure]:
    """Kill nodes at work, start others, and time them from start to first scene."""
    camera = Camera(ros)
    publisher = camera.node.create_publisher(camera.image_type, "/camera/image", camera.reliable)
    times_s: list[float] = []
    for number in tqdm(range(1, count + 2), "kills", unit=""):
        started_s = time.monotonic()
        parameter = f"model_file_path:={models.quick}"
        with node_process(parameter, stderr=subprocess.DEVNULL) as process:

            def seen(number=number):
                publisher.publish(camera.image(number))
                return any(scene.header.stamp.sec == number for scene in camera.scenes)

            camera.spin_until(seen, f"scene {number}")
            times_s.append(time.monotonic() - started_s)
            process.kill()
            process.wait(PATIENCE_S)
    camera.node.destroy_node()
    return [
        Figure("kills", count),
        Figure("start to first scene, median, s", percentile(times_s[1:], 50)),
        Figure("start to first scene, longest, s", max(times_s[1:]), limit=RECOVERY_LIMIT_S),
    ]
