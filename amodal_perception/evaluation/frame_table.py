"""The table of a run, one row per frame: ``frames.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amodal_perception import files
from amodal_perception.evaluation.one_to_one_matching import ImagePairs
from amodal_perception.evaluation.temporal_stability import SceneChange
from amodal_perception.structures import Scene

Cell = str | int | float | None
CHANGE_COLUMNS = (
    "objects_kept",
    "objects_new",
    "objects_gone",
    "amodal_iou",
    "visible_iou",
    "hidden_iou",
    "edges_kept",
    "edges_new",
    "edges_gone",
)
"""What changed since the scene before: numbers of objects and edges, mean IoU of kept objects."""
TRUTH_COLUMNS = ("true_objects", "true_found", "true_amodal_iou", "panoptic_quality")
"""Objects in truth; those found; mean IoU of these; their summed IoU over all there are."""


@dataclass(frozen=True, eq=False)
class FrameRow:
    """One frame in numbers; None where there is no value.

    Attributes:
        index: place among the frames, from 0.
        stamp_ns: time of exposure, nanoseconds.
        latency_ms: from the frame to its scene, milliseconds; None if unknown or dropped.
        age_ms: from exposure to the scene's arrival, milliseconds; of live runs.
        stages_ms: milliseconds by stage.
        instances: number of objects; None if dropped.
        occluded: objects of which a tenth or more is hidden.
        edges: number of occlusions; None if dropped.
        change: what changed since the scene before.
        matches: how it agrees with truth, where there is truth of the frame.
    """

    index: int
    stamp_ns: int
    latency_ms: float | None = None
    age_ms: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    instances: int | None = None
    occluded: int | None = None
    edges: int | None = None
    change: SceneChange | None = None
    matches: ImagePairs | None = None

    @property
    def is_dropped(self) -> bool:
        """Whether there is no scene of this frame."""
        return self.instances is None

    def cells(self, stages: Sequence[str]) -> dict[str, Cell]:
        """Return the row as CSV has it; `stages` names the stages' columns."""
        row: dict[str, Cell] = {
            "frame": self.index,
            "stamp_ns": self.stamp_ns,
            "dropped": int(self.is_dropped),
            "instances": self.instances,
            "occluded": self.occluded,
            "edges": self.edges,
            **_change_cells(self.change),
            **_truth_cells(self.matches),
            "latency_ms": self.latency_ms,
            "age_ms": self.age_ms,
        }
        return row | {f"{stage}_ms": self.stages_ms.get(stage) for stage in stages}


def scene_row(
    index: int,
    scene: Scene,
    change: SceneChange | None,
    *,
    latency_ms: float | None,
    age_ms: float | None,
) -> FrameRow:
    """Make the row of a scene."""
    return FrameRow(
        index=index,
        stamp_ns=scene.stamp_ns,
        latency_ms=latency_ms,
        age_ms=age_ms,
        stages_ms=scene.stages_ms,
        instances=len(scene.instances),
        occluded=int((scene.instances.occlusion_rate >= 0.1).sum()),
        edges=len(scene.graph.edges),
        change=change,
    )


def mean(values: np.ndarray) -> float | None:
    """Return the mean without NaN; None of no values."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """Return p50, p95 and p99 of milliseconds or other figures; None of no values."""
    if not len(values):
        return {"p50": None, "p95": None, "p99": None}
    p50, p95, p99 = np.percentile(values, [50, 95, 99]).tolist()
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3)}


def write_csv(path: Path, rows: Sequence[FrameRow]) -> None:
    """Write one line per frame; a cell is empty where there is no value."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row.stages_ms))
    header = FrameRow(0, 0).cells(stages)
    with files.atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        for row in rows:
            table.writerow([_cell(value) for value in row.cells(stages).values()])


def read_column(path: Path, name: str) -> list[float]:
    """Read the numbers of one column of such a file; what is empty is left out."""
    with path.open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def _change_cells(change: SceneChange | None) -> dict[str, Cell]:
    if change is None:
        return dict.fromkeys(CHANGE_COLUMNS)
    cells: tuple[Cell, ...] = (
        change.kept,
        change.appeared,
        change.vanished,
        mean(change.amodal_iou),
        mean(change.visible_iou),
        mean(change.hidden_iou),
        change.edges_kept,
        change.edges_new,
        change.edges_gone,
    )
    return dict(zip(CHANGE_COLUMNS, cells))


def _truth_cells(matches: ImagePairs | None) -> dict[str, Cell]:
    if matches is None:
        return dict.fromkeys(TRUTH_COLUMNS)
    cells: tuple[Cell, ...] = (
        matches.num_true,
        len(matches.amodal_iou),
        mean(matches.amodal_iou),
        matches.quality,
    )
    return dict(zip(TRUTH_COLUMNS, cells))


def _cell(value: Cell) -> Cell:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}"
    return value
