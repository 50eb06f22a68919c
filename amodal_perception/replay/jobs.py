"""Replay jobs: one for every camera of every bag."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from amodal_perception import files
from amodal_perception.errors import AmodalError, BagError, DatasetError
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.replay.replay import replay_bag
from amodal_perception.replay.run_folder import DEFAULTS, LEFTOVER_PREFIX, RunOptions
from amodal_perception.runtime import DEFAULT_MODEL, load_runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import Json
from amodal_perception.storage.bag_depth import ANY_DEPTH, DepthOptions
from amodal_perception.storage.bag_files import bag_name, camera_topics, find_bags, storage_files
from amodal_perception.storage.scene_bags import NAMESPACE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a pipeline; unlike the pipeline, they can be sent to other processes.

    Attributes:
        path: the model file.
        num_threads: CPU threads of the engine; 0: it chooses.
        config: thresholds.
        provider: what runs the model inside ONNX Runtime.
        device: the NVIDIA GPU, by index or UUID; empty: the first.
    """

    path: Path = DEFAULT_MODEL
    num_threads: int = 0
    config: PipelineConfig = field(default_factory=PipelineConfig)
    provider: str = "cpu"
    device: str = ""

    def load(self) -> Pipeline:
        """Load the model."""
        runtime = load_runtime(
            self.path,
            num_threads=self.num_threads,
            provider=self.provider,
            device=self.device,
        )
        return Pipeline(runtime, self.config)


@dataclass(frozen=True)
class Job:
    """One camera of one bag.

    Attributes:
        bag: rosbag2 folder or file.
        topic: image topic.
        message_count: messages on the topic.
        out_dir: folder of the run.
        model: its settings.
        truth_path: amodal COCO file with ``stamp_ns``.
        is_only: whether there is no other: then it is done anew in any case, and the truth must be
            about it.
        options: what of the run is left out.
        depth: where the frames' depth comes from.
        live: how it is played to a node; empty: read from the bag.
    """

    bag: Path
    topic: str
    message_count: int
    out_dir: Path
    model: ModelSettings
    truth_path: Path | None = None
    is_only: bool = True
    options: RunOptions = DEFAULTS
    depth: DepthOptions = ANY_DEPTH
    live: str = ""

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the result: files, model, settings."""
        inputs = {
            "files": [_file_state(path) for path in storage_files(self.bag)],
            "topic": self.topic,
            "model": _sha256_once(self.model.path),
            "config": asdict(self.model.config),
            "truth": self.truth_path and _file_state(self.truth_path),
            "options": asdict(self.options),
            "depth": asdict(self.depth),
            "live": self.live,
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """The result of a job: the content of its ``summary.json``, or an error in one line."""

    job: Job
    summary: Json | None
    error: str = ""
    is_reused: bool = False


Runner = Callable[[Job, Callable[[], None]], Json]
"""Does one job, calls back after each frame, and returns its summary."""


def list_jobs(
    paths: Sequence[Path],
    out_dir: Path,
    model: ModelSettings,
    *,
    topics: Sequence[str] = (),
    truth_path: Path | None = None,
    options: RunOptions = DEFAULTS,
    depth: DepthOptions = ANY_DEPTH,
) -> tuple[list[Job], dict[str, str]]:
    """List the jobs of bags and folders.

    A single job writes to `out_dir` itself, several to folders in it that are named after the bags
    and, where a bag has several cameras, after their topics.

    Args:
        paths: bags, and folders of bags.
        out_dir: folder for all results.
        model: its settings.
        topics: image topics; none takes every camera.
        truth_path: amodal COCO file, or a folder with one for each bag, ``<bag's name>.json``.
        options: what of the runs is left out.
        depth: where the frames' depth comes from.

    Returns:
        The jobs, and by bag the errors of those that cannot be read.

    Raises:
        BagError: no bags, or the only one cannot be read.
        ModelFileError: the model cannot be used.
        DatasetError: the truth cannot be read, or does not name the topics of the only bag, which
            has several cameras.
    """
    load_runtime(model.path)  # better now than in every job
    found: list[tuple[Path, Path]] = []
    errors: dict[str, str] = {}
    for path in map(Path, paths):
        try:
            bags = find_bags(path)
        except (BagError, OSError) as error:
            if len(paths) == 1:
                raise
            errors[str(path)] = str(error)
            continue
        found += [(path, bag) for bag in bags if bag == path or not _is_result(bag)]
    names = _unique_names([_name_in(root, bag) for root, bag in found])
    if truth_path is not None and not truth_path.is_dir():
        amodal_coco.read(truth_path)  # the truth of all bags: better now than in every job
    jobs: list[Job] = []
    for (_, bag), name in zip(found, names):
        try:
            cameras = camera_topics(bag, topics)
            truth = _truth_of(truth_path, bag)
            if len(cameras) > 1 and truth:
                _check_topics_named(truth)
        except (AmodalError, OSError) as error:
            if len(found) == 1 and not errors:
                raise
            errors[str(bag)] = str(error)
            continue
        several = len(cameras) > 1
        camera_names = _unique_names([_camera_name(camera.name) for camera in cameras])
        for camera, camera_name in zip(cameras, camera_names):
            inside = camera_name if several else Path()
            jobs.append(
                Job(
                    bag=bag,
                    topic=camera.name,
                    message_count=camera.message_count,
                    out_dir=out_dir / name / inside,
                    model=model,
                    truth_path=truth,
                    options=replace(options, namespace=str(Path(NAMESPACE) / inside)),
                    depth=depth,
                )
            )
    if len(jobs) == 1 and not errors:
        return [replace(jobs[0], out_dir=out_dir)], {}
    return [replace(job, is_only=False) for job in jobs], errors


def run_or_reuse(job: Job, run: Runner, on_frame: Callable[[], None]) -> Outcome:
    """Run a job, or keep the results of an equal earlier one; errors are returned, not raised."""
    try:
        inputs = job.fingerprint()
        earlier = None if job.is_only else _earlier_summary(job.out_dir)
        if earlier and earlier.get("inputs_sha256") == inputs:
            return Outcome(job, earlier, is_reused=True)
        for leftover in job.out_dir.glob(f"{LEFTOVER_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)  # of a run that was killed
        return Outcome(job, run(job, on_frame))
    except AmodalError as error:
        return Outcome(job, None, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else f"{job.bag}: "
        return Outcome(job, None, f"{where}{error.strerror or error}")
    except Exception as error:
        # A fault of ours, or of a library: it costs this run, not those after it.
        logger.debug("%s, %s", job.bag, job.topic, exc_info=True)
        return Outcome(job, None, unexpected_error(job, error))


def unexpected_error(job: Job, error: BaseException) -> str:
    """Describe in one line an error that nobody foresaw."""
    reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
    return f"{job.bag}: {job.topic} could not be replayed ({reason}); please report this"


def replay_job(job: Job, on_frame: Callable[[], None]) -> Json:
    """Replay one camera of a bag; the model stays loaded for the next job in this process."""
    return replay_bag(
        job.bag,
        _load(job.model),
        job.out_dir,
        topic=job.topic,
        truth_path=job.truth_path,
        is_measured=job.is_only,
        about={"inputs_sha256": job.fingerprint()},
        options=job.options,
        depth=job.depth,
        on_frame=on_frame,
    )


@lru_cache(maxsize=1)
def _load(model: ModelSettings) -> Pipeline:
    return model.load()


_sha256_once = lru_cache(files.sha256_of)


def _file_state(path: Path) -> list[str | int]:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]


def _earlier_summary(folder: Path) -> Json | None:
    try:
        content = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _name_in(root: Path, bag: Path) -> Path:
    """Name a bag after its place in the folder that was given."""
    inside = bag.relative_to(root) if root in bag.parents else Path(bag.name)
    return inside.with_name(bag_name(bag))


def _is_result(bag: Path) -> bool:
    """Tell whether a bag is what an earlier run left, and so no recording."""
    return bag.name == "scenes.mcap" and (bag.parent / "summary.json").exists()


def _camera_name(topic: str) -> Path:
    return Path(topic.strip("/").replace("/", "_"))


def _unique_names(names: Sequence[Path]) -> list[Path]:
    """Number names that would meet in one folder."""
    unique: list[Path] = []
    for name in names:
        candidate, number = name, 2
        while candidate in unique:
            candidate = name.with_name(f"{name.name}_{number}")
            number += 1
        unique.append(candidate)
    return unique


def _truth_of(truth_path: Path | None, bag: Path) -> Path | None:
    if truth_path is None or not truth_path.is_dir():
        return truth_path
    own = truth_path / f"{bag_name(bag)}.json"
    return own if own.exists() else None


@lru_cache
def _check_topics_named(truth_path: Path) -> None:
    for row in amodal_coco.read(truth_path).images.values():
        if "topic" not in row:
            raise DatasetError(
                f"{truth_path}: image {row['id']} names no 'topic', and the bag has several "
                "cameras; name it, or choose the camera by --topic"
            )
