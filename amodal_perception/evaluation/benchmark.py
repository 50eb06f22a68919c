"""How fast: every stage from the camera's JPEG to the message, with twenty objects in view."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore
from tqdm import trange

from amodal_perception import bags, files
from amodal_perception.amodal_coco import Json
from amodal_perception.errors import ConfigError
from amodal_perception.images import encode_image
from amodal_perception.pipeline import Pipeline
from amodal_perception.ros.images import message_to_frame
from amodal_perception.ros.messages import MessageTypes, scene_to_msg
from amodal_perception.runtime import ModelMetadata, RawDetections, Runtime
from amodal_perception.structures import UInt8Array

SAMPLE_BAG = Path(__file__).parents[1] / "assets" / "sample_bag"
SIZE_HW = (480, 640)
OBJECTS = 20
WARM_UP_FRAMES = 10
PEER_FRAMES = 10


@dataclass(frozen=True, eq=False)
class Crowded:
    """An engine that runs, and whose results are exchanged for a fixed crowd of objects.

    What comes after the engine takes as long as there are objects, so their number is fixed;
    the engine itself, a static graph, takes the same time whatever it sees.
    """

    runtime: Runtime
    crowd: RawDetections

    @property
    def metadata(self) -> ModelMetadata:
        """The engine's own."""
        return self.runtime.metadata

    def __call__(self, image: UInt8Array) -> RawDetections:
        """Run the engine; return the crowd."""
        self.runtime(image)
        return self.crowd


def make_crowd(metadata: ModelMetadata, count: int = OBJECTS) -> RawDetections:
    """Make network outputs of discs and boxes that overlap, nearer ones over farther ones.

    Args:
        metadata: of the model whose outputs these could be.
        count: objects; the model's own limit holds.
    """
    rng = np.random.default_rng(0)
    height, width = metadata.input_hw
    n, m = metadata.max_instances, metadata.mask_size
    count = min(count, n)
    # Boxes of about 9,000 camera pixels at 640 x 480, a little larger than in simulated scenes of
    # 15 objects and more, on a jittered 5 x 4 grid so tight that neighbours overlap, yet nobody
    # disappears.
    place = rng.permutation(20)[np.arange(count) % 20]
    grid = np.stack([(place % 5 - 2) / 8, (place // 5 - 1.5) / 6.5], axis=1) + 0.5
    centre = (grid + rng.uniform(-0.02, 0.02, (count, 2))) * [width, height]
    half = rng.uniform(0.06, 0.105, (count, 2)) * [width, height]
    boxes_xyxy = np.zeros((n, 4), np.float32)
    boxes_xyxy[:count] = np.concatenate([centre - half, centre + half], axis=1)
    scores = np.zeros(n, np.float32)
    scores[:count] = np.linspace(0.99, 0.7, count)

    cells = (np.arange(m) + 0.5) / m * 2 - 1
    disc = (cells[:, None] ** 2 + cells[None, :] ** 2 < 0.95).astype(np.float32)
    amodal = np.zeros((n, m, m), np.float32)
    amodal[:count] = 1.0
    amodal[:count:2] = disc
    visible = amodal.copy()
    for far in range(count):
        x0, y0, x1, y1 = boxes_xyxy[far]
        xs = x0 + (cells + 1) / 2 * (x1 - x0)
        ys = y0 + (cells + 1) / 2 * (y1 - y0)
        for near in range(far):
            left, top, right, bottom = boxes_xyxy[near]
            inside_x = (xs >= left) & (xs < right)
            inside_y = (ys >= top) & (ys < bottom)
            visible[far][np.ix_(inside_y, inside_x)] = 0
    return RawDetections(
        boxes_xyxy=boxes_xyxy,
        scores=scores,
        labels=np.zeros(n, np.int64),
        amodal=amodal,
        visible=visible,
    )


def benchmark(
    pipeline: Pipeline, *, frames: int = 200, peer: Callable[[UInt8Array], Any] | None = None
) -> Json:
    """Time every stage on 640 x 480 JPEG frames with `OBJECTS` objects.

    Args:
        pipeline: a loaded model.
        frames: frames measured, after a warm-up.
        peer: something else that sees an image, run between our frames so that both meet the
            same state of the machine.

    Returns:
        Figures: percentiles of every stage, of the whole and of all but the engine, in
        milliseconds; frames per second; the same of the peer.
    """
    messages = _jpeg_messages()
    crowd = make_crowd(pipeline.runtime.metadata)
    crowded = Pipeline(Crowded(pipeline.runtime, crowd), pipeline.config)
    types = MessageTypes.from_typestore(get_typestore(Stores.ROS2_JAZZY))
    stages_ms: dict[str, list[float]] = {}
    peer_ms: list[float] = []
    objects: list[int] = []
    peer_every = max(frames // PEER_FRAMES, 1)
    if peer:  # the first call sets up much that later ones reuse
        peer(message_to_frame(messages[0]).image)
    for i in trange(-WARM_UP_FRAMES, frames, desc="bench", unit="frame"):
        message = messages[i % len(messages)]
        started = time.perf_counter()
        frame = message_to_frame(message)
        decoded = time.perf_counter()
        scene = crowded(frame)
        seen = time.perf_counter()
        scene_to_msg(scene, types)
        done = time.perf_counter()
        row = {
            "decode": (decoded - started) * 1e3,
            **scene.stages_ms,
            "message": (done - seen) * 1e3,
        }
        if i < 0:
            continue
        objects.append(len(scene.instances))
        for name, value in row.items():
            stages_ms.setdefault(name, []).append(value)
        if peer and i % peer_every == 0:
            started = time.perf_counter()
            peer(frame.image)
            peer_ms.append((time.perf_counter() - started) * 1e3)
    total_ms = np.sum(list(stages_ms.values()), axis=0)
    figures: Json = {
        "model_id": pipeline.runtime.metadata.model_id,
        "image_hw": list(SIZE_HW),
        "frames": frames,
        "objects_per_frame": float(np.mean(objects)),
        "cpus": os.cpu_count(),
        "stages_ms": {name: _percentiles_ms(values) for name, values in stages_ms.items()},
        "total_ms": _percentiles_ms(total_ms),
        "all_but_engine_ms": _percentiles_ms(total_ms - np.array(stages_ms["engine"])),
        "frames_per_second": round(1e3 / float(total_ms.mean()), 2),
    }
    if peer_ms:
        figures["peer_ms"] = _percentiles_ms(peer_ms)
        figures["peer_over_total"] = round(
            figures["peer_ms"]["p50"] / figures["total_ms"]["p50"], 2
        )
    return figures


def run_benchmark(
    pipeline: Pipeline,
    *,
    frames: int = 200,
    json_path: Path | None = None,
    peer: str | None = None,
    num_threads: int = 2,
) -> Json:
    """Run `benchmark`, print a table, and write the figures where asked to.

    Args:
        pipeline: a loaded model.
        frames: frames measured.
        json_path: file for the figures.
        peer: ``torchvision`` runs its Mask R-CNN beside ours; None runs ours alone.
        num_threads: CPU threads given to the peer.

    Raises:
        ConfigError: no frames, an unknown peer, or one that is not installed.
    """
    if frames < 1:
        raise ConfigError(f"frames is {frames}, but at least 1 is needed")
    if peer is not None and peer not in PEERS:
        raise ConfigError(f"unknown peer {peer!r}; known are: {', '.join(PEERS)}")
    figures = benchmark(pipeline, frames=frames, peer=PEERS[peer](num_threads) if peer else None)
    if peer:
        figures["peer"] = peer
    if json_path:
        files.write_json(Path(json_path), figures, indent=1)
    _print_figures(figures)
    return figures


def _torchvision(num_threads: int) -> Callable[[UInt8Array], Any]:
    """Load torchvision's Mask R-CNN with random weights: speed needs no training.

    Random weights find nothing, so the mask branch rests: the peer is shown at its fastest.
    """
    try:
        import torch
        from torchvision.models.detection import (  # type: ignore[import-untyped]
            maskrcnn_resnet50_fpn,
        )
    except ImportError as error:
        raise ConfigError(
            f"peer torchvision needs torch and torchvision ({error}); pip install them"
        ) from None
    torch.set_num_threads(num_threads)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=min(SIZE_HW), max_size=max(SIZE_HW)
    ).eval()

    def see(image: UInt8Array) -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
            return model([tensor])

    return see


PEERS = {"torchvision": _torchvision}


def _jpeg_messages() -> list[Any]:
    """Return camera messages: of the sample bag where it is there, else of drawn clutter."""
    if SAMPLE_BAG.exists():
        images = [frame.image for frame, _ in zip(bags.read_frames(SAMPLE_BAG), range(8))]
    else:
        images = [_clutter(seed) for seed in range(4)]
    stamp = SimpleNamespace(sec=0, nanosec=0)
    header = SimpleNamespace(stamp=stamp, frame_id="camera")
    messages = []
    for image in images:
        if image.shape[:2] != SIZE_HW:
            image = cv2.resize(image, SIZE_HW[::-1], interpolation=cv2.INTER_AREA)  # type: ignore
        data = np.frombuffer(encode_image(image, ".jpg"), np.uint8)
        messages.append(SimpleNamespace(header=header, format="jpeg", data=data))
    return messages


def _clutter(seed: int) -> UInt8Array:
    """Draw discs on noise: an image that costs a JPEG decoder about what a photograph does."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 120, (*SIZE_HW, 3), dtype=np.uint8)
    for _ in range(OBJECTS):
        centre = int(rng.integers(SIZE_HW[1])), int(rng.integers(SIZE_HW[0]))
        color = [int(c) for c in rng.integers(0, 256, 3)]
        cv2.circle(image, centre, int(rng.integers(30, 80)), color, -1, cv2.LINE_AA)
    return image


def _percentiles_ms(values_ms: Any) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values_ms, [50, 95, 99]).tolist()
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3)}


def _print_figures(figures: Json) -> None:
    height, width = figures["image_hw"]
    print(
        f"{figures['model_id']}: {width} x {height} JPEG, {figures['frames']} frames, "
        f"{figures['objects_per_frame']:.0f} objects each"
    )
    print(f"\n{'milliseconds':<20} {'p50':>9} {'p95':>9} {'p99':>9}")
    rows = {
        **figures["stages_ms"],
        "all but the engine": figures["all_but_engine_ms"],
        "total": figures["total_ms"],
    }
    if "peer_ms" in figures:
        rows[f"peer: {figures['peer']}"] = figures["peer_ms"]
    for name, row in rows.items():
        print(f"{name:<20} {row['p50']:>9.2f} {row['p95']:>9.2f} {row['p99']:>9.2f}")
    print(f"\n{figures['frames_per_second']:.1f} frames per second")
    if "peer_ms" in figures:
        print(f"the peer takes {figures['peer_over_total']:.1f} times as long")
