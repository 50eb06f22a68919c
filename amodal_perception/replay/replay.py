"""Replay of one camera of a bag: every frame through the pipeline, none dropped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import only_images
from amodal_perception.pipeline import Pipeline
from amodal_perception.replay.run_folder import DEFAULTS, ReplayedFrame, RunOptions, write_run
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.bag_depth import (
    ANY_DEPTH,
    DepthOfFrames,
    DepthOptions,
    find_depth_topic,
)
from amodal_perception.storage.bag_files import choose_topic
from amodal_perception.storage.bag_frames import read_frames


def replay(
    bag: Path,
    pipeline: Pipeline,
    topic: str | None = None,
    depth: DepthOfFrames | None = None,
    losses: Counter[str] | None = None,
) -> Iterator[ReplayedFrame]:
    """Run the pipeline on every frame of a bag, in order, none dropped.

    Args:
        bag: rosbag2 folder or file.
        pipeline: a loaded model.
        topic: image topic; None chooses, see `bag_files.choose_topic`.
        depth: of the same frames; objects are then ordered by it too.
        losses: counts the messages that are no image, by cause.

    Raises:
        BagError: see `bag_frames.read_frames`.
    """
    for frame in read_frames(bag, topic, losses):
        started = time.perf_counter()
        scene = pipeline(frame, partial(depth.of, frame) if depth else None)
        yield ReplayedFrame(frame, scene, (time.perf_counter() - started) * 1e3)


def replay_bag(
    bag: Path,
    pipeline: Pipeline,
    out_dir: Path,
    *,
    topic: str | None = None,
    truth_path: Path | None = None,
    is_measured: bool = True,
    about: Json | None = None,
    options: RunOptions = DEFAULTS,
    depth: DepthOptions = ANY_DEPTH,
    on_frame: Callable[[], None] = lambda: None,
) -> Json:
    """Replay one camera of a bag and write everything a run leaves; see `replay` and `write_run`.

    Args:
        bag: rosbag2 folder or file.
        pipeline: a loaded model.
        out_dir: folder for the results.
        topic: image topic; None chooses.
        truth_path: amodal COCO file whose images carry ``stamp_ns``.
        is_measured: whether the truth must be about this bag; else it may.
        about: more entries for the summary.
        options: what of the run is left out.
        depth: where the frames' depth comes from.
        on_frame: called after each frame.

    Returns:
        The content of ``summary.json``.
    """
    chosen = choose_topic(bag, topic)
    truth = read_stamped_truth(truth_path, chosen.name) if truth_path else None
    depth_topic = find_depth_topic(bag, chosen.name, depth)
    depths = DepthOfFrames(bag, depth_topic, depth) if depth_topic else None
    losses: Counter[str] = Counter()
    frames = with_callback(replay(bag, pipeline, chosen.name, depths, losses), on_frame)
    metadata = pipeline.runtime.metadata
    return write_run(
        out_dir,
        frames,
        model_id=metadata.model_id,
        class_names=metadata.class_names,
        truth=truth,
        is_measured=is_measured,
        sent=chosen.message_count,
        losses=losses,
        about={"bag": str(bag), "topic": chosen.name}
        | ({"depth_topic": depth_topic} if depth_topic else {})
        | (about or {}),
        options=options,
    )


def with_callback(
    frames: Iterable[ReplayedFrame], on_frame: Callable[[], None]
) -> Iterator[ReplayedFrame]:
    """Yield frames, and call back after each is processed."""
    for frame in frames:
        yield frame
        on_frame()


def read_stamped_truth(path: Path, topic: str | None = None) -> AmodalCoco:
    """Read truth whose images are named by ``stamp_ns``.

    Args:
        path: amodal COCO.
        topic: images that name another ``topic`` are left out: those of other cameras, whose
            stamps may be the same.

    Raises:
        DatasetError: not readable, or an image without a stamp.
    """
    truth = amodal_coco.read(path)
    for row in truth.images.values():
        if "stamp_ns" not in row:
            raise DatasetError(
                f"{path}: image {row['id']} has no 'stamp_ns', so no frame can be matched to it"
            )
    mine = {
        image_id
        for image_id, row in truth.images.items()
        if topic is None or row.get("topic", topic) == topic
    }
    return only_images(truth, mine)
