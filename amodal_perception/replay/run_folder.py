"""The folder of a run: scenes, overlays, a video, predictions, figures, a report.

A run is what became of one camera's frames, whether read from a bag or seen through a live node.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodal_perception import files
from amodal_perception.drawing.overlay import draw_scene, id_colors
from amodal_perception.drawing.webm import VideoFile
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import align, only_images
from amodal_perception.evaluation.evaluate import evaluate_aligned, rounded
from amodal_perception.evaluation.frame_table import (
    FrameRow,
    percentiles,
    scene_row,
    write_csv,
)
from amodal_perception.evaluation.one_to_one_matching import ImagePairs
from amodal_perception.evaluation.temporal_stability import (
    ComparedScene,
    SceneChange,
    StableIds,
    compare_scenes,
    temporal_stability,
)
from amodal_perception.reports.run_report import Gallery, RunReport, write_run_report
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json
from amodal_perception.storage.image_files import write_image
from amodal_perception.storage.predictions_file import SCENE, PredictionsFile
from amodal_perception.storage.scene_bags import NAMESPACE, writing_scenes
from amodal_perception.structures import Frame, Scene, UInt8Array

RUN_FILES = (
    "summary.json",
    "report.html",
    "frames.csv",
    "predictions.json",
    "scenes.mcap",
    "video.webm",
)
"""What a run writes besides ``overlays/``; the summary last, as the mark of a complete run."""
HASHED_FILES = ("predictions.json", "scenes.mcap", "video.webm")
"""Those that are the same, byte for byte, whenever the scenes are."""
LEFTOVER_PREFIX = ".run_"


@dataclass(frozen=True, eq=False)
class ReplayedFrame:
    """One camera frame and its scene.

    Attributes:
        frame: the image.
        scene: its scene; None if the frame was dropped.
        latency_ms: from the frame to its scene, wall time; None if unknown or dropped.
        age_ms: from the frame's exposure to the arrival of its scene; of live runs.
    """

    frame: Frame
    scene: Scene | None
    latency_ms: float | None
    age_ms: float | None = None


@dataclass(frozen=True)
class RunOptions:
    """Optional files of a run.

    Attributes:
        overlays: write a PNG for every frame.
        video: write ``video.webm``.
        namespace: where the topics of ``scenes.mcap`` lie.
    """

    overlays: bool = True
    video: bool = True
    namespace: str = NAMESPACE


DEFAULTS = RunOptions()
NO_LOSSES: Mapping[str, int] = {}


def write_run(
    out_dir: Path,
    frames: Iterable[ReplayedFrame],
    *,
    model_id: str,
    class_names: Sequence[str] = ("object",),
    truth: AmodalCoco | None = None,
    is_measured: bool = True,
    sent: int = 0,
    losses: Mapping[str, int] = NO_LOSSES,
    about: Json | None = None,
    options: RunOptions = DEFAULTS,
) -> Json:
    """Write a run's files: `RUN_FILES` and ``overlays/``.

    The frames are taken one at a time, so a run may be longer than memory. Nothing appears in
    `out_dir` before everything is written; of an earlier run there, its files alone are replaced.

    Args:
        out_dir: folder, made where it is missing.
        frames: all frames that could be decoded, in order.
        model_id: of the model that made the scenes.
        class_names: what the scenes' labels index.
        truth: images with ``stamp_ns``; frames without truth are not measured.
        is_measured: whether the truth must be about some of the frames; else it may.
        sent: number of frames sent, where it is more than `frames`: the rest was no picture.
        losses: messages that were no picture, by cause; may be filled while the frames are taken.
        about: more entries for the summary; may be filled while the frames are taken.
        options: what is left out.

    Returns:
        The content of ``summary.json``.

    Raises:
        DatasetError: the truth is about none of the frames.
    """
    with _atomic_write_run(Path(out_dir)) as folder:
        run = _Run(folder, options)
        with PredictionsFile() as predictions:
            run.take(frames, predictions)
            predictions.write(
                folder / "predictions.json",
                categories=amodal_coco.categories_of(class_names),
                info={"predictions": SCENE, "model_id": model_id},
            )
        summary = run.summary(model_id, sent, losses) | (about or {})
        evaluation = None
        if truth is not None:
            common = common_frames(truth, amodal_coco.read(folder / "predictions.json"))
            if common:
                evaluation = evaluate_aligned(common[0], align(*common))
                run.take_matches(common[0], evaluation.matches)
                summary["metrics"] = rounded(evaluation)
                summary["temporal_stability_truth"] = temporal_stability(truth_changes(common[0]))
            elif is_measured:
                raise DatasetError(
                    f"{truth.path}: holds none of the {summary['frames_processed']} stamps of "
                    "the run"
                )
        write_csv(folder / "frames.csv", run.rows)
        write_run_report(
            folder / "report.html",
            RunReport(summary, run.rows, run.gallery, evaluation, folder / "video.webm"),
        )
        files.write_json(folder / "summary.json", summary, indent=1)
    return summary


def truth_changes(truth: AmodalCoco) -> list[SceneChange]:
    """Compare the truth's images, in the order of their stamps, as scenes are compared."""
    changes, before = [], None
    for image_id in sorted(truth.images, key=lambda i: truth.images[i]["stamp_ns"]):
        instances, edges = truth.instances_of(image_id), truth.occlusions_of(image_id)
        seen = np.flatnonzero(instances.visible_area_px > 0)
        place = np.full(len(instances), -1, np.int32)
        place[seen] = np.arange(len(seen))
        edges = place[edges]
        scene = ComparedScene(instances[seen], edges[(edges >= 0).all(axis=1)])
        if before is not None:
            changes.append(compare_scenes(before, scene))
        before = scene
    return changes


class _Run:
    """The files and figures of a run, written while the frames come."""

    def __init__(self, folder: Path, options: RunOptions) -> None:
        self.folder = folder
        self.options = options
        (folder / "overlays").mkdir()
        self.rows: list[FrameRow] = []
        self.gallery = Gallery()
        self.digest = hashlib.sha256()

    def take(self, frames: Iterable[ReplayedFrame], predictions: PredictionsFile) -> None:
        """Process every frame; write scenes, overlays and the video as they come."""
        before: ComparedScene | None = None
        stable_ids = StableIds()
        with ExitStack() as stack:
            bag = stack.enter_context(
                writing_scenes(self.folder / "scenes.mcap", self.options.namespace)
            )
            video = None
            if self.options.video:
                video = stack.enter_context(VideoFile(self.folder / "video.webm"))
            for index, replayed in enumerate(frames):
                frame, scene = replayed.frame, replayed.scene
                if scene is None:
                    self.rows.append(FrameRow(index, frame.stamp_ns))
                    if video:
                        video.add(_dropped_picture(frame.image), frame.stamp_ns)
                    continue
                compared = ComparedScene(scene.instances, scene.graph.edges, scene.track_ids)
                change = compare_scenes(before, compared) if before else None
                before = compared
                latency_ms, age_ms = replayed.latency_ms, replayed.age_ms
                row = scene_row(index, scene, change, latency_ms=latency_ms, age_ms=age_ms)
                self.rows.append(row)
                colors = id_colors(stable_ids.update(change, len(scene.instances)))
                overlay = draw_scene(frame.image, scene, colors)
                predictions.add(scene, f"{index:06d}.png")
                self.gallery.add(index, frame, scene, overlay, colors)
                _update_digest(self.digest, scene)
                # Without its timing, which is never the same.
                bag.write(replace(scene, stages_ms={}), overlay)
                if video:
                    video.add(overlay, frame.stamp_ns)
                if self.options.overlays:
                    write_image(self.folder / "overlays" / f"{index:06d}.png", overlay)

    def take_matches(self, truth: AmodalCoco, matches: Sequence[ImagePairs]) -> None:
        """Add each frame's matches with truth to its row."""
        by_stamp = {truth.images[match.image_id]["stamp_ns"]: match for match in matches}
        self.rows = [
            row if row.is_dropped else replace(row, matches=by_stamp.get(row.stamp_ns))
            for row in self.rows
        ]

    def summary(self, model_id: str, sent: int, losses: Mapping[str, int]) -> Json:
        """Return the run's figures, as ``summary.json`` has them."""
        sent = max(sent, len(self.rows) + sum(losses.values()))
        seen = [row for row in self.rows if not row.is_dropped]
        stages_ms: dict[str, list[float]] = {}
        for row in seen:
            for stage, duration_ms in row.stages_ms.items():
                stages_ms.setdefault(stage, []).append(duration_ms)
        count = max(len(seen), 1)
        return {
            "model_id": model_id,
            "frames_sent": sent,
            "frames_processed": len(seen),
            "frames_dropped": sent - len(seen),
            "frames_undecodable": sent - len(self.rows),
            "undecodable_by_cause": dict(sorted(losses.items())),
            "latency_ms": percentiles([r.latency_ms for r in seen if r.latency_ms is not None]),
            "stages_ms": {name: percentiles(ms) for name, ms in stages_ms.items()},
            "instances_mean": round(sum(row.instances or 0 for row in seen) / count, 3),
            "occluded_mean": round(sum(row.occluded or 0 for row in seen) / count, 3),
            "edges_mean": round(sum(row.edges or 0 for row in seen) / count, 3),
            "temporal_stability": temporal_stability(row.change for row in seen if row.change),
            "scenes_sha256": self.digest.hexdigest(),
            "files_sha256": {
                name: files.sha256_of(self.folder / name)
                for name in HASHED_FILES
                if (self.folder / name).exists()
            },
        }


def _dropped_picture(image: UInt8Array) -> UInt8Array:
    """Draw a frame without a scene: darkened, with a label."""
    picture = image // 3
    scale = max(picture.shape[0] / 600, 0.4)
    place = round(12 * scale), round(32 * scale)
    cv2.putText(
        picture, "no scene", place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 90, 90), 2, cv2.LINE_AA
    )
    return picture


def _update_digest(digest: Any, scene: Scene) -> None:
    """Hash a scene: everything but boxes (messages have none) and timing."""
    instances, graph = scene.instances, scene.graph
    height, width = instances.size_hw
    digest.update(f"{scene.stamp_ns} {scene.frame_id} {scene.model_id} {height} {width}".encode())
    for array in (
        instances.scores,
        instances.labels,
        np.packbits(instances.amodal),
        np.packbits(instances.visible),
        graph.edges,
        graph.confidence,
        graph.removal_order,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())


def common_frames(
    truth: AmodalCoco, predictions: AmodalCoco
) -> tuple[AmodalCoco, AmodalCoco] | None:
    """Keep the frames that both predictions and truth have; None where there are none."""
    seen = {row["stamp_ns"]: image_id for image_id, row in predictions.images.items()}
    known = {row["stamp_ns"]: image_id for image_id, row in truth.images.items()}
    common = seen.keys() & known.keys()
    if not common:
        return None
    return (
        only_images(truth, {known[stamp] for stamp in common}),
        only_images(predictions, {seen[stamp] for stamp in common}),
    )


@contextmanager
def _atomic_write_run(out_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success its content takes the place of an earlier run's."""
    is_new = not out_dir.exists()
    out_dir.mkdir(parents=True, exist_ok=True)
    # Inside the target: renaming then never crosses file systems.
    folder = Path(tempfile.mkdtemp(prefix=LEFTOVER_PREFIX, dir=out_dir))
    try:
        yield folder
        for name in RUN_FILES:
            (out_dir / name).unlink(missing_ok=True)
        (out_dir / "overlays").mkdir(exist_ok=True)
        for overlay in (out_dir / "overlays").glob("[0-9]*.png"):
            overlay.unlink()
        for overlay in sorted((folder / "overlays").iterdir()):
            os.replace(overlay, out_dir / "overlays" / overlay.name)
        for name in reversed(RUN_FILES):
            if (folder / name).exists():
                os.replace(folder / name, out_dir / name)
        if not any((out_dir / "overlays").iterdir()):
            (out_dir / "overlays").rmdir()
    except OSError as error:
        if error.filename is None:  # a full disk does not say where
            error.filename = str(out_dir)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and not any(out_dir.iterdir()):
            out_dir.rmdir()
