"""ID switches and ID transfers of tracks, on a bag whose truth names its objects.

    python -m amodal_perception.evaluation.id_switches            # the sample bag
    python -m amodal_perception.evaluation.id_switches --on truth --every 2 --lose 0.3

The truth is an amodal COCO file whose images carry ``stamp_ns`` and whose annotations carry a
``track_id`` that stays with the object, as ``python -m training.sim.bag`` writes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.one_to_one_matching import match_greedily
from amodal_perception.files import ASSETS
from amodal_perception.pipeline import Pipeline
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco
from amodal_perception.storage.bag_frames import read_frames
from amodal_perception.storage.coco_rle import encode_mask, iou_matrix
from amodal_perception.structures import Frame, Instances
from amodal_perception.tracking import Tracker


@dataclass(frozen=True)
class IdSwitches:
    """How well track ids stay with the true objects of a film.

    Attributes:
        objects: true objects that were detected at least once.
        detections: pairs of a frame and an object detected in it.
        id_switches: detections of an object under another id than its last.
        id_transfers: detections under an id whose last detection was of another object.
    """

    objects: int
    detections: int
    id_switches: int
    id_transfers: int


def count_id_switches(frames: Iterable[Iterable[tuple[str, str]]]) -> IdSwitches:
    """Count ID switches and ID transfers.

    Args:
        frames: for every frame in order the pairs (track id, name of the true object).
    """
    id_of: dict[str, str] = {}
    object_of: dict[str, str] = {}
    detections = switches = transfers = 0
    for pairs in frames:
        for track_id, name in pairs:
            detections += 1
            switches += id_of.get(name, track_id) != track_id
            transfers += object_of.get(track_id, name) != name
            id_of[name], object_of[track_id] = track_id, name
    return IdSwitches(len(id_of), detections, switches, transfers)


def tracked_truth(
    frames: Iterable[Frame], truth: AmodalCoco, *, lose: float = 0.0
) -> Iterator[list[tuple[str, str]]]:
    """Track the true objects themselves, some of them lost at random in every frame.

    Args:
        frames: the film.
        truth: see the module.
        lose: probability that an object is not detected in a frame, 0..1; the draws are the same
            in every run.
    """
    rng = np.random.default_rng(0)
    tracker = Tracker()
    for frame, instances, names in _with_truth(frames, truth):
        found = np.flatnonzero(rng.random(len(instances)) >= lose)
        ids = tracker.update(frame, instances[found])
        yield [(track, names[i]) for track, i in zip(ids, found)]


def tracked_predictions(
    frames: Iterable[Frame], truth: AmodalCoco, pipeline: Pipeline
) -> Iterator[list[tuple[str, str]]]:
    """Track a model's instances; those that match no true object take no part in the count.

    By descending score, each takes the free true object with the highest IoU of visible masks, if
    that is 0.5 at least.
    """
    tracker = Tracker()
    for frame, instances, names in _with_truth(frames, truth):
        found = pipeline(frame).instances
        ids = tracker.update(frame, found)
        iou = iou_matrix(
            [encode_mask(mask) for mask in found.visible],
            [encode_mask(mask) for mask in instances.visible],
        )
        matches = match_greedily(iou)
        yield [(track, names[match]) for track, match in zip(ids, matches) if match >= 0]


def _with_truth(
    frames: Iterable[Frame], truth: AmodalCoco
) -> Iterator[tuple[Frame, Instances, list[str]]]:
    image_of = {image.get("stamp_ns"): image_id for image_id, image in truth.images.items()}
    for frame in frames:
        image_id = image_of.get(frame.stamp_ns)
        if image_id is None:
            raise DatasetError(f"{truth.path}: no image has the stamp_ns {frame.stamp_ns}")
        rows = truth.annotations_of(image_id)
        if not all("track_id" in row for row in rows):
            raise DatasetError(
                f"{truth.path}: image {image_id} has annotations without 'track_id'; "
                "without it nobody knows which object is which"
            )
        yield frame, truth.instances_of(image_id), [str(row["track_id"]) for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m amodal_perception.evaluation.id_switches",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("--bag", type=Path, default=ASSETS / "sample_bag")
    parser.add_argument("--truth", type=Path, default=ASSETS / "sample_truth.json")
    parser.add_argument("--on", choices=("truth", "predictions"), default="predictions")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="ONNX model file")
    parser.add_argument("--every", type=int, default=1, help="take every so-many-th frame")
    parser.add_argument(
        "--lose", type=float, default=0.0, help="with --on truth: share of objects lost, 0..1"
    )
    args = parser.parse_args(argv)
    if args.every < 1 or not 0 <= args.lose < 1:
        parser.error("--every must be 1 at least, --lose between 0 and 1")
    return run_main("id_switches", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    truth = amodal_coco.read(args.truth)
    frames = list(read_frames(args.bag))[:: args.every]
    film = tqdm(frames, "tracking", unit="frame")
    if args.on == "truth":
        pairs = tracked_truth(film, truth, lose=args.lose)
    else:
        pairs = tracked_predictions(film, truth, Pipeline(load_runtime(args.model)))
    print(json.dumps(asdict(count_id_switches(pairs))))


if __name__ == "__main__":
    sys.exit(main())
