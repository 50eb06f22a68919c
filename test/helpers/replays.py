"""Bags to replay, `amodal replay` over a folder of them, and frames that were replayed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from amodal_perception.cli import main
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.run_folder import ReplayedFrame
from amodal_perception.structures import Frame
from helpers.bag_writing import image_message, write_bag

SIZE_HW = (96, 128)
RUNS = ["night/one", "night/two/left", "night/two/right", "one"]
STAMPS_NS = [10**9 * (5 + i) + 7 for i in range(4)]
RUN = {
    "summary.json",
    "report.html",
    "frames.csv",
    "predictions.json",
    "scenes.mcap",
    "video.webm",
    "overlays",
}


def write_bags(folder: Path) -> Path:
    """Write three bags of four cameras, whose runs are `RUNS`, and one that is damaged."""

    def camera(first_s: int, count: int) -> list:
        rng = np.random.default_rng(first_s)
        images = rng.integers(0, 256, (count, *SIZE_HW, 3), dtype=np.uint8)
        return [image_message(image, (first_s + i) * 10**9) for i, image in enumerate(images)]

    write_bag(folder / "one", {"/eye": camera(10, 3)}, StoragePlugin.SQLITE3)
    write_bag(folder / "night" / "two", {"/left": camera(20, 2), "/right": camera(20, 2)})
    write_bag(
        folder / "night" / "one", {"/eye": camera(30, 4)}, compression=CompressionMode.MESSAGE
    )
    (folder / "torn.mcap").write_bytes(b"\x89MCAP0\r\n")
    return folder


def replay(*arguments) -> int:
    """Run `amodal replay` in this process; return its exit code."""
    return main(["replay", *map(str, arguments)])


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def frames_of(pipeline: Pipeline, count: int = 3) -> list[ReplayedFrame]:
    """Let a pipeline see frames of noise."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(count):
        frame = Frame(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8), STAMPS_NS[i], "camera")
        frames.append(ReplayedFrame(frame, pipeline(frame), 10.0 + i))
    return frames
