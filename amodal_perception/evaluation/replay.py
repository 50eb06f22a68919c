"""Bags to scenes, and what a run leaves behind: scenes, overlays, predictions, figures, report."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from amodal_perception import amodal_coco, bags, files
from amodal_perception.amodal_coco import AmodalCoco, Json
from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.alignment import only_images
from amodal_perception.evaluation.metrics import Evaluation, evaluate_in_detail
from amodal_perception.evaluation.report import FrameFigures, Gallery, write_report
from amodal_perception.images import write_image
from amodal_perception.pipeline import Pipeline
from amodal_perception.structures import Frame, Scene
from amodal_perception.visualize import draw_scene

RUN_FILES = ("summary.json", "report.html", "predictions.json", "scenes.mcap")
"""What a run writes besides ``overlays/``; the summary last, as the mark of a complete run."""


@dataclass(frozen=True, eq=False)
class ReplayedFrame:
    """One camera frame and what became of it.

    Attributes:
        frame: what was sent.
        scene: what was seen in it; None if the frame was dropped.
        latency_ms: from the frame to its scene, wall time; None if unknown or dropped.
    """

    frame: Frame
    scene: Scene | None
    latency_ms: float | None


def replay(bag: Path, pipeline: Pipeline, topic: str | None = None) -> Iterator[ReplayedFrame]:
    """See every frame of a bag, one after the other, none dropped.

    Args:
        bag: rosbag2 folder or file.
        pipeline: a loaded model.
        topic: image topic; None chooses, see `bags.choose_topic`.

    Raises:
        BagError: see `bags.read_frames`.
    """
    for frame in bags.read_frames(bag, topic):
        started = time.perf_counter()
        scene = pipeline(frame)
        yield ReplayedFrame(frame, scene, (time.perf_counter() - started) * 1e3)


def replay_bag(
    bag: Path,
    pipeline: Pipeline,
    out_dir: Path,
    *,
    topic: str | None = None,
    truth_path: Path | None = None,
) -> Json:
    """Replay a bag and write everything a run leaves; see `replay` and `write_run`.

    Args:
        bag: rosbag2 folder or file.
        pipeline: a loaded model.
        out_dir: folder for the results.
        topic: image topic; None chooses.
        truth_path: amodal COCO file whose images carry ``stamp_ns``.

    Returns:
        The content of ``summary.json``.
    """
    truth = read_stamped_truth(truth_path) if truth_path else None
    chosen = bags.choose_topic(bag, topic)
    frames = tqdm(
        replay(bag, pipeline, chosen.name), "replay", total=chosen.message_count, unit="frame"
    )
    metadata = pipeline.runtime.metadata
    return write_run(
        out_dir,
        frames,
        model_id=metadata.model_id,
        class_names=metadata.class_names,
        truth=truth,
    )


def read_stamped_truth(path: Path) -> AmodalCoco:
    """Read truth whose images are named by ``stamp_ns``.

    Raises:
        DatasetError: not readable, or an image without a stamp.
    """
    truth = amodal_coco.read(path)
    for row in truth.images.values():
        if "stamp_ns" not in row:
            raise DatasetError(
                f"{path}: image {row['id']} has no 'stamp_ns', so no frame can be matched to it"
            )
    return truth


def write_run(
    out_dir: Path,
    frames: Iterable[ReplayedFrame],
    *,
    model_id: str,
    class_names: Sequence[str] = ("object",),
    truth: AmodalCoco | None = None,
) -> Json:
    """Write scenes.mcap, overlays/, predictions.json, report.html and summary.json.

    The frames are taken one at a time, so a run may be longer than memory. Nothing appears in
    `out_dir` before everything is written; of an earlier run there, its files alone are replaced.

    Args:
        out_dir: folder, made where it is missing.
        frames: all frames sent, in order.
        model_id: of the model that made the scenes.
        class_names: what the scenes' labels index.
        truth: images with ``stamp_ns``; frames without truth are not measured.

    Returns:
        The content of ``summary.json``.

    Raises:
        DatasetError: the truth is about none of the frames.
    """
    with _replacing_run(Path(out_dir)) as folder:
        run = _Run(folder)
        bags.write_scenes(folder / "scenes.mcap", run.collect(frames))
        amodal_coco.write(
            folder / "predictions.json",
            images=run.images,
            annotations=run.annotations,
            categories=amodal_coco.categories_of(class_names),
            occlusions=run.occlusions,
            info={"model_id": model_id},
        )
        evaluation = None
        if truth is not None:
            predictions = amodal_coco.read(folder / "predictions.json")
            evaluation = _evaluate_common_frames(truth, predictions)
        summary = run.summary(model_id)
        if evaluation:
            summary["metrics"] = {k: round(v, 6) for k, v in evaluation.metrics.items()}
        write_report(folder / "report.html", summary, run.figures, run.gallery, evaluation)
        files.write_json(folder / "summary.json", summary, indent=1)
    return summary


def print_table(summary: Json) -> None:
    """Print a run's key figures."""
    metrics = summary.get("metrics", {})
    rows = [
        ("frames sent", f"{summary['frames_sent']}"),
        ("frames processed", f"{summary['frames_processed']}"),
        ("frames dropped", f"{summary['frames_dropped']}"),
        ("instances per frame", _number(summary["instances_mean"], 2)),
        ("occlusion edges per frame", _number(summary["edges_mean"], 2)),
    ]
    if "metrics" in summary:
        rows += [
            ("AP of amodal masks", _number(metrics.get("coco.amodal_mask.AP"), 3)),
            ("AP of visible masks", _number(metrics.get("coco.visible_mask.AP"), 3)),
            ("accuracy of the order", _number(metrics.get("order.matched_pairs.accuracy"), 3)),
        ]
    for name, value in rows:
        print(f"{name:<26} {value:>9}")
    print(f"\n{'milliseconds':<26} {'p50':>9} {'p95':>9} {'p99':>9}")
    for name, figures in {"latency": summary["latency_ms"], **summary["stages_ms"]}.items():
        columns = " ".join(f"{_number(figures[key], 2):>9}" for key in ("p50", "p95", "p99"))
        print(f"{name:<26} {columns}")


def percentiles_ms(values_ms: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p95 and p99, milliseconds; None of no values."""
    if not values_ms:
        return {"p50": None, "p95": None, "p99": None}
    p50, p95, p99 = np.percentile(values_ms, [50, 95, 99]).tolist()
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3)}


class _Run:
    """What is gathered while the frames pass by."""

    def __init__(self, folder: Path) -> None:
        self.overlays = folder / "overlays"
        self.overlays.mkdir()
        self.images: list[Json] = []
        self.annotations: list[Json] = []
        self.occlusions: list[Json] = []
        self.figures: list[FrameFigures] = []
        self.gallery = Gallery()
        self.stages_ms: dict[str, list[float]] = {}
        self.digest = hashlib.sha256()

    def collect(self, frames: Iterable[ReplayedFrame]) -> Iterator[Scene]:
        """Take in every frame; yield the scenes without their timing, which is never the same."""
        for index, replayed in enumerate(frames):
            frame, scene = replayed.frame, replayed.scene
            self.figures.append(
                FrameFigures(
                    index=index,
                    stamp_ns=frame.stamp_ns,
                    latency_ms=replayed.latency_ms,
                    instances=None if scene is None else len(scene.instances),
                    edges=None if scene is None else len(scene.graph.edges),
                )
            )
            if scene is None:
                continue
            for stage, duration_ms in scene.stages_ms.items():
                self.stages_ms.setdefault(stage, []).append(duration_ms)
            self._add_annotations(index, scene)
            overlay = draw_scene(frame.image, scene)
            write_image(self.overlays / f"{index:06d}.png", overlay)
            self.gallery.add(index, frame, scene, overlay)
            _update_digest(self.digest, scene)
            yield replace(scene, stages_ms={})

    def _add_annotations(self, index: int, scene: Scene) -> None:
        image_id = len(self.images) + 1
        self.images.append(
            amodal_coco.image_record(
                image_id, f"{index:06d}.png", scene.instances.size_hw, stamp_ns=scene.stamp_ns
            )
        )
        annotations, occlusions = amodal_coco.scene_to_annotations(
            scene, image_id=image_id, first_id=len(self.annotations) + 1
        )
        self.annotations += annotations
        self.occlusions += occlusions

    def summary(self, model_id: str) -> Json:
        """Return the run's figures, as ``summary.json`` has them."""
        processed = [row for row in self.figures if row.instances is not None]
        latencies_ms = [row.latency_ms for row in processed if row.latency_ms is not None]
        count = max(len(processed), 1)
        return {
            "model_id": model_id,
            "frames_sent": len(self.figures),
            "frames_processed": len(processed),
            "frames_dropped": len(self.figures) - len(processed),
            "latency_ms": percentiles_ms(latencies_ms),
            "stages_ms": {name: percentiles_ms(ms) for name, ms in self.stages_ms.items()},
            "instances_mean": round(sum(row.instances or 0 for row in processed) / count, 3),
            "edges_mean": round(sum(row.edges or 0 for row in processed) / count, 3),
            "scenes_sha256": self.digest.hexdigest(),
        }


def _update_digest(digest: Any, scene: Scene) -> None:
    """Hash what was seen: everything but boxes (messages have none) and timing."""
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


def _evaluate_common_frames(truth: AmodalCoco, predictions: AmodalCoco) -> Evaluation:
    """Measure the frames that were seen and that the truth is about."""
    seen = {row["stamp_ns"]: image_id for image_id, row in predictions.images.items()}
    known = {row["stamp_ns"]: image_id for image_id, row in truth.images.items()}
    common = seen.keys() & known.keys()
    if not common:
        raise DatasetError(f"{truth.path}: holds none of the {len(seen)} stamps of the run")
    return evaluate_in_detail(
        only_images(truth, {known[stamp] for stamp in common}),
        only_images(predictions, {seen[stamp] for stamp in common}),
    )


@contextmanager
def _replacing_run(out_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success its content takes the place of an earlier run's."""
    is_new = not out_dir.exists()
    out_dir.mkdir(parents=True, exist_ok=True)
    # Inside the target: renaming then never crosses file systems.
    folder = Path(tempfile.mkdtemp(prefix=".run_", dir=out_dir))
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
            os.replace(folder / name, out_dir / name)
    except OSError as error:
        if error.filename is None:  # a full disk does not say where
            error.filename = str(out_dir)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and not any(out_dir.iterdir()):
            out_dir.rmdir()


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
