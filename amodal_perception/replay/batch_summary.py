"""The summary and report over many runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amodal_perception import files
from amodal_perception.evaluation.alignment import align
from amodal_perception.evaluation.evaluate import evaluate_aligned, rounded
from amodal_perception.evaluation.frame_table import percentiles, read_column
from amodal_perception.replay.jobs import Job, Outcome
from amodal_perception.replay.replay import read_stamped_truth
from amodal_perception.replay.run_folder import common_frames
from amodal_perception.reports.batch_report import write_batch_report
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.amodal_coco import AmodalCoco, Json

PAIR_KEYS = ("occluder_id", "occludee_id", "closer_id", "farther_id")
MEANS = ("instances_mean", "occluded_mean", "edges_mean")


@dataclass(frozen=True)
class Failure:
    """A bag, or one camera of it (``topic``), that could not be replayed, and why."""

    bag: str
    error: str
    topic: str = ""


def write_batch_summary(
    out_dir: Path, outcomes: Sequence[Outcome], unreadable: dict[str, str]
) -> tuple[Json | None, list[Failure]]:
    """Write the summary and the report over all jobs.

    Of a single job its own summary is the summary. Of several, ``summary.json`` and
    ``report.html`` over all are written to `out_dir`.

    Args:
        out_dir: folder of all results.
        outcomes: one for each job, in any order.
        unreadable: by bag the errors of those that gave no job.

    Returns:
        The summary, None where nothing succeeded; and what failed.
    """
    outcomes = sorted(outcomes, key=lambda outcome: str(outcome.job.out_dir))
    failures = [Failure(bag, error) for bag, error in unreadable.items()]
    failures += [
        Failure(str(outcome.job.bag), outcome.error, outcome.job.topic)
        for outcome in outcomes
        if outcome.summary is None
    ]
    done = [(outcome.job, outcome.summary) for outcome in outcomes if outcome.summary]
    if len(done) == 1 and not failures and done[0][0].out_dir == out_dir:
        return done[0][1], []
    if not done:
        return None, failures
    summary = summarise_runs(out_dir, done, failures)
    write_batch_report(out_dir, summary)
    files.write_json(out_dir / "summary.json", summary, indent=1)
    return summary, failures


def summarise_runs(
    out_dir: Path, done: Sequence[tuple[Job, Json]], failures: Sequence[Failure]
) -> Json:
    """Pool the figures of several runs.

    Frames are added up, times are percentiles over all frames of all runs, means are weighted by
    frames, temporal stability by pairs of frames, and metrics are measured over all images.
    """
    summaries = [summary for _, summary in done]
    seen = [summary["frames_processed"] for summary in summaries]
    tables = [job.out_dir / "frames.csv" for job, _ in done]
    stages = list(dict.fromkeys(stage for summary in summaries for stage in summary["stages_ms"]))
    models = sorted({summary["model_id"] for summary in summaries})
    digest = hashlib.sha256("".join(s["scenes_sha256"] for s in summaries).encode())
    over: Json = {
        "model_id": ", ".join(models),
        **{
            name: sum(summary[name] for summary in summaries)
            for name in ("frames_sent", "frames_processed", "frames_dropped", "frames_undecodable")
        },
        "undecodable_by_cause": dict(
            sorted(sum((Counter(s["undecodable_by_cause"]) for s in summaries), Counter()).items())
        ),
        "latency_ms": _percentiles(tables, "latency_ms"),
        "stages_ms": {stage: _percentiles(tables, f"{stage}_ms") for stage in stages},
        **{name: _weighted([(s[name], n) for s, n in zip(summaries, seen)]) for name in MEANS},
        "temporal_stability": _temporal_stability(
            [summary["temporal_stability"] for summary in summaries]
        ),
        "scenes_sha256": digest.hexdigest(),
    }
    if all("age_ms" in summary for summary in summaries):
        over["age_ms"] = _percentiles(tables, "age_ms")
    measured = [(job, summary) for job, summary in done if "metrics" in summary]
    if measured:
        metrics = _metrics([job for job, _ in measured])
        over["metrics"] = metrics
    over["runs"] = [
        {"folder": str(job.out_dir.relative_to(out_dir)), **_row(job, summary)}
        for job, summary in done
    ]
    over["failed"] = [vars(failure) for failure in failures]
    return over


def _row(job: Job, summary: Json) -> Json:
    return {
        "bag": str(job.bag),
        "topic": job.topic,
        "frames_sent": summary["frames_sent"],
        "frames_processed": summary["frames_processed"],
        "frames_dropped": summary["frames_dropped"],
        "latency_p50_ms": summary["latency_ms"]["p50"],
        "instances_mean": summary["instances_mean"],
        "edges_mean": summary["edges_mean"],
        "objects_kept": summary["temporal_stability"].get("objects_kept"),
        "amodal_iou": summary["temporal_stability"].get("amodal_iou"),
        "AP": summary.get("metrics", {}).get("coco.amodal_mask.AP"),
        "scenes_sha256": summary["scenes_sha256"],
    }


def _percentiles(tables: Iterable[Path], column: str) -> dict[str, float | None]:
    return percentiles([value for table in tables for value in read_column(table, column)])


def _weighted(values: Sequence[tuple[float, float]]) -> float:
    total = sum(weight for _, weight in values)
    return round(sum(value * weight for value, weight in values) / max(total, 1), 3)


def _temporal_stability(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part if name != "pairs")
    over: dict[str, float] = {"pairs": sum(part["pairs"] for part in parts)}
    for name in names:
        having = [(part[name], part["pairs"]) for part in parts if name in part]
        over[name] = _weighted(having)
    return over


def _metrics(jobs: Sequence[Job]) -> dict[str, float | str]:
    """Measure all runs at once; of truths with other classes nothing is said."""
    truths, aligned = [], []
    for job in jobs:
        assert job.truth_path is not None
        common = common_frames(
            read_stamped_truth(job.truth_path, job.topic),
            amodal_coco.read(job.out_dir / "predictions.json"),
        )
        assert common is not None, "a run with metrics has frames with truth"
        truths.append(common[0])
        aligned.append(align(*common))
    if len({str(truth.categories) for truth in truths}) > 1:
        return {}
    return rounded(evaluate_aligned(pool_files(truths), pool_files(aligned)))


def pool_files(parts: Sequence[AmodalCoco]) -> AmodalCoco:
    """Put files with the same categories together; images, named by part and stamp, stay apart."""
    images: dict[int, Json] = {}
    annotations: dict[int, Json] = {}
    occlusions: list[Json] = []
    depth_orders: list[Json] = []
    for number, part in enumerate(parts):
        first_image = max(images, default=0) + 1
        image_id = {old: first_image + i for i, old in enumerate(sorted(part.images))}
        for old, row in part.images.items():
            kept = {key: value for key, value in row.items() if key != "stamp_ns"}
            name = f"{number}/{row['stamp_ns']}"
            images[image_id[old]] = kept | {"id": image_id[old], "file_name": name}
        first = max(annotations, default=0) + 1
        annotation_id = {old: first + i for i, old in enumerate(sorted(part.annotations))}
        for old, row in part.annotations.items():
            ids = {"id": annotation_id[old], "image_id": image_id[row["image_id"]]}
            annotations[ids["id"]] = row | ids
        occlusions += [_moved(edge, annotation_id, annotations) for edge in part.occlusions]
        depth_orders += [_moved(order, annotation_id, annotations) for order in part.depth_orders]
    return replace(
        parts[0],
        images=images,
        annotations=annotations,
        occlusions=tuple(occlusions),
        depth_orders=tuple(depth_orders),
    )


def _moved(pair: Json, annotation_id: dict[int, int], annotations: dict[int, Json]) -> Json:
    """Give a pair of annotations its new ids, and that of their image."""
    ends = {key: annotation_id[pair[key]] for key in PAIR_KEYS if key in pair}
    return pair | ends | {"image_id": annotations[next(iter(ends.values()))]["image_id"]}
