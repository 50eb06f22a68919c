"""More images than the model can see, for a long time: scenes must stay young, memory flat."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import numpy as np
from helpers.onnx_models import INPUT_HW, write_model
from helpers.running_node import Camera, Monitor, node_process
from tqdm import tqdm

from amodal_perception.runtime import load_runtime
from gates.watch import Figure, growth, percentile, rss_mb

IMAGES_PER_S = 30
INFERENCE_S = 0.2
ASK_EVERY_S = 0.1
AGE_LIMIT = 2.0  # inferences, of the longer of the two that a scene lives through
RSS_LIMIT_MB = 20.0
ANSWER_LIMIT_MS = 50.0
WARM_UP_S = 5.0


def run(ros, models, seconds: float) -> list[Figure]:
    """Publish VGA images and ask for a parameter all the while."""
    from rcl_interfaces.srv import GetParameters

    from amodal_perception.msg import AmodalScene

    model, inference_s = _slow_model(models.folder / "slow.onnx")
    camera = Camera(ros)
    monitor = Monitor(camera)
    ages_s: list[float] = []
    ratios: list[float] = []
    stages_s: list[dict[str, float]] = []

    def receive(scene) -> None:
        stamp = scene.header.stamp
        if stamp.sec == 0:
            return
        age_s = time.time() - stamp.sec - stamp.nanosec * 1e-9
        stages_s.append({n: ms * 1e-3 for n, ms in zip(scene.stage_names, scene.stage_ms)})
        ages_s.append(age_s)
        # It has lived through two inferences: that before it, for which it waited, and its own.
        ratios.append(age_s / max(stages["engine"] for stages in stages_s[-2:]))

    camera.node.create_subscription(
        AmodalScene, "/amodal_perception/scene", receive, camera.reliable
    )
    client = camera.node.create_client(GetParameters, "/amodal_perception/get_parameters")
    asked_s: list[float] = []
    answers_ms: list[float] = []

    def ask() -> None:
        started_s = time.perf_counter()
        asked_s.append(started_s)
        future = client.call_async(GetParameters.Request(names=["score_threshold"]))
        future.add_done_callback(
            lambda _: answers_ms.append((time.perf_counter() - started_s) * 1e3)
        )

    memory_mb: list[float] = []
    parameters = f"model_file_path:={model}", "num_threads:=1", "engine_timeout:=0.0"
    with node_process(*parameters, stderr=subprocess.DEVNULL) as process:
        publisher = camera.publisher()
        rgb = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
        message = camera.image(1, rgb)
        camera.wait(WARM_UP_S)
        begun_s = time.monotonic()
        due_image_s = due_ask_s = due_memory_s = begun_s
        sent = 0
        with tqdm(total=round(seconds), desc="soak", unit="s") as bar:
            while (now_s := time.monotonic()) < begun_s + seconds:
                assert process.poll() is None, "the node ended"
                if now_s >= due_image_s:
                    due_image_s += 1 / IMAGES_PER_S
                    now_ns = time.time_ns()
                    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
                    publisher.publish(message)
                    sent += 1
                if now_s >= due_ask_s:
                    due_ask_s += ASK_EVERY_S
                    ask()
                if now_s >= due_memory_s:
                    due_memory_s += 1
                    memory_mb.append(rss_mb(process.pid))
                    bar.update(round(now_s - begun_s) - bar.n)
                due_s = min(due_image_s, due_ask_s, due_memory_s)
                ros.spin_once(camera.node, timeout_sec=max(0.0, due_s - time.monotonic()))
        camera.wait(1.5)
        received = int(monitor.values("input")["received"])
    camera.node.destroy_node()
    oldest = int(np.argmax(ratios))
    wait_s, engine_s = stages_s[oldest]["wait"], stages_s[oldest]["engine"]
    other_s = sum(stages_s[oldest].values()) - wait_s - engine_s
    return [
        Figure("inference alone, s", inference_s),
        Figure("images sent", sent),
        Figure("images sent per second", sent / seconds),
        Figure("images received by the node", received),
        Figure("scenes", len(ages_s), at_least=1),
        Figure("age of a scene, median, s", percentile(ages_s, 50)),
        Figure("age of a scene, 99 %, s", percentile(ages_s, 99)),
        Figure("age in inferences, median", percentile(ratios, 50)),
        Figure("age in inferences, 99 %", percentile(ratios, 99)),
        Figure("age in inferences, largest", max(ratios), limit=AGE_LIMIT),
        Figure("of that one: age, s", ages_s[oldest]),
        Figure("of that one: waiting for the engine, s", wait_s),
        Figure("of that one: in the engine, s", engine_s),
        Figure("of that one: other work on it, s", other_s),
        Figure("growth of memory, MB", growth(memory_mb), limit=RSS_LIMIT_MB),
        Figure("parameter requests without an answer", len(asked_s) - len(answers_ms), limit=0),
        Figure("parameter answer, median, ms", percentile(answers_ms, 50)),
        Figure("parameter answer, 99 %, ms", percentile(answers_ms, 99), limit=ANSWER_LIMIT_MS),
    ]


def _slow_model(path: Path) -> tuple[Path, float]:
    """Write a model that takes about `INFERENCE_S` on one thread here; return what it takes."""
    loops = 10
    for _ in range(2):
        runtime = load_runtime(write_model(path, busy_loops=loops), num_threads=1)
        times_s = []
        for _ in range(5):
            started_s = time.perf_counter()
            runtime(np.zeros((1, *INPUT_HW, 3), np.uint8))
            times_s.append(time.perf_counter() - started_s)
        inference_s = float(np.median(times_s))
        wanted = max(1, round(loops * INFERENCE_S / inference_s))
        if wanted == loops:
            break
        loops = wanted
    return path, inference_s
