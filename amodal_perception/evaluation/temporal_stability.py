"""Temporal stability (flicker): how objects, masks and edges change from frame to frame.

A model may be right on every frame on average and still be of no use to a planner, because masks
and edges come and go. Part of the change is real, the camera and the things move; measured on
truth in the same way, that part is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from amodal_perception.structures import FloatArray, Instances, IntArray

MIN_IOU = 0.5


@dataclass(frozen=True, eq=False)
class SceneChange:
    """What changed from one scene to the next.

    Attributes:
        previous_of: [N] int32, for every instance of the later scene its index in the earlier
            one, or -1 for one that is new.
        vanished: instances of the earlier scene that are gone.
        amodal_iou: [K] float32, 0..1, of the kept instances' complete masks.
        visible_iou: [K] float32, 0..1, of their visible masks; NaN where neither has a pixel.
        hidden_iou: [K] float32, 0..1, of their hidden parts; NaN where neither hides a pixel.
        labels_changed: kept instances whose class changed.
        tracks_changed: kept instances whose track id changed; None where nothing is tracked.
        edges_kept: edges between kept instances that are in both scenes.
        edges_new: those that are in the later scene only.
        edges_gone: those that were in the earlier scene only.
        edges_reversed: pairs that changed who hides whom; counted in both of the above too.
    """

    previous_of: IntArray
    vanished: int
    amodal_iou: FloatArray
    visible_iou: FloatArray
    hidden_iou: FloatArray
    labels_changed: int
    tracks_changed: int | None
    edges_kept: int
    edges_new: int
    edges_gone: int
    edges_reversed: int

    @property
    def kept(self) -> int:
        """Instances that are in both scenes."""
        return len(self.amodal_iou)

    @property
    def appeared(self) -> int:
        """Instances that are in the later scene only."""
        return len(self.previous_of) - self.kept


@dataclass(frozen=True, eq=False)
class ComparedScene:
    """What of a scene is compared.

    Attributes:
        instances: the objects.
        edges: [E, 2] int32, (occluder, occludee), indices of instances.
        track_ids: a name for each instance; empty when nothing is tracked.
    """

    instances: Instances
    edges: IntArray
    track_ids: tuple[str, ...] = ()


def compare_scenes(before: ComparedScene, after: ComparedScene) -> SceneChange:
    """Match the objects of two consecutive scenes, and measure how they changed.

    Pairs are made best first, each object once, by the larger of the IoUs of visible and of amodal
    masks, `MIN_IOU` at least: a jumping amodal mask alone does not make an object a new one. The
    two images must be of one size, else nothing is found again.
    """
    a, b = before.instances, after.instances
    pairs = _pairs(a, b)
    previous_of = np.full(len(b), -1, np.int32)
    for pair in pairs:
        previous_of[pair.after] = pair.before
    ious = np.array([pair[2:] for pair in pairs], np.float32).reshape(-1, 3)
    labels_changed = sum(int(a.labels[p.before] != b.labels[p.after]) for p in pairs)
    tracks_changed = None
    if before.track_ids and after.track_ids:
        tracks_changed = sum(before.track_ids[p.before] != after.track_ids[p.after] for p in pairs)

    kept_before = set(previous_of.tolist()) - {-1}
    old = {(i, j) for i, j in before.edges.tolist() if {i, j} <= kept_before}
    translated = [(int(previous_of[i]), int(previous_of[j])) for i, j in after.edges]
    new = {edge for edge in translated if -1 not in edge}
    reversed_edges = {(j, i) for i, j in old - new} & (new - old)
    return SceneChange(
        previous_of=previous_of,
        vanished=len(a) - len(pairs),
        amodal_iou=ious[:, 0],
        visible_iou=ious[:, 1],
        hidden_iou=ious[:, 2],
        labels_changed=labels_changed,
        tracks_changed=tracks_changed,
        edges_kept=len(old & new),
        edges_new=len(new - old),
        edges_gone=len(old - new),
        edges_reversed=len(reversed_edges),
    )


def temporal_stability(changes: Iterable[SceneChange]) -> dict[str, float]:
    """Measure the temporal stability of a film from the changes between its scenes.

    Returns:
        ``pairs`` (of consecutive scenes), ``objects_kept`` (share of all objects of two
        consecutive scenes that are in both), the mean IoU of kept objects' ``amodal_iou``,
        ``visible_iou`` and ``hidden_iou``, ``edges_kept`` (share of all edges between kept objects
        that are in both scenes), ``edges_reversed``, ``labels_changed`` and ``tracks_changed``
        (each a share of what is kept). What nothing can be said about is left out.
    """
    changes = list(changes)
    figures: dict[str, float] = {"pairs": len(changes)}
    kept = sum(change.kept for change in changes)
    objects = kept + sum(change.appeared + change.vanished for change in changes)
    if objects:
        figures["objects_kept"] = kept / objects
    for name in ("amodal_iou", "visible_iou", "hidden_iou"):
        values = [getattr(change, name) for change in changes]
        ious = np.concatenate(values) if values else np.zeros(0)
        ious = ious[~np.isnan(ious)]
        if len(ious):
            figures[name] = float(ious.mean())
    same = sum(change.edges_kept for change in changes)
    edges = same + sum(change.edges_new + change.edges_gone for change in changes)
    if edges:
        figures["edges_kept"] = same / edges
        figures["edges_reversed"] = sum(change.edges_reversed for change in changes) / edges
    if kept:
        figures["labels_changed"] = sum(change.labels_changed for change in changes) / kept
    tracked = [change for change in changes if change.tracks_changed is not None and change.kept]
    if tracked:
        switches = sum(change.tracks_changed or 0 for change in tracked)
        figures["tracks_changed"] = switches / sum(change.kept for change in tracked)
    return {name: round(value, 6) for name, value in figures.items()}


class StableIds:
    """Whole numbers that stay with objects over scenes, as `compare_scenes` matches them."""

    def __init__(self) -> None:
        self._known = np.zeros(0, np.int64)
        self._next = 0

    def update(self, change: SceneChange | None, count: int) -> np.ndarray:
        """Number the `count` instances of a scene; `change` leads to it from the one before.

        Returns:
            [count] int64.
        """
        previous_of = np.full(count, -1) if change is None else change.previous_of
        is_new = previous_of < 0
        ids = np.zeros(count, np.int64)
        ids[~is_new] = self._known[previous_of[~is_new]]
        ids[is_new] = self._next + np.arange(is_new.sum())
        self._next += int(is_new.sum())
        self._known = ids
        return ids


class _Pair(NamedTuple):
    """An object in two scenes: its index in both, and the IoUs of its masks."""

    before: int
    after: int
    amodal_iou: float
    visible_iou: float
    hidden_iou: float


def _pairs(a: Instances, b: Instances) -> list[_Pair]:
    """Match the objects of both scenes greedily, by IoU, each once."""
    if a.size_hw != b.size_hw or not len(a) or not len(b):
        return []
    left_top = np.maximum(a.windows_xyxy[:, None, :2], b.windows_xyxy[None, :, :2])
    right_bottom = np.minimum(a.windows_xyxy[:, None, 2:], b.windows_xyxy[None, :, 2:])
    meet = (left_top < right_bottom).all(axis=2)
    found = []
    for i, j in np.argwhere(meet).tolist():
        x0, y0 = left_top[i, j]
        x1, y1 = right_bottom[i, j]
        part = slice(y0, y1), slice(x0, x1)
        areas = [
            (int(one.amodal_area_px[k]), int(one.visible_area_px[k]))
            for one, k in ((a, i), (b, j))
        ]
        (amodal_a, visible_a), (amodal_b, visible_b) = areas
        amodal = np.count_nonzero(a.amodal[i][part] & b.amodal[j][part])
        visible = np.count_nonzero(a.visible[i][part] & b.visible[j][part])
        amodal_iou = _ratio(amodal, amodal_a + amodal_b)
        visible_iou = _ratio(visible, visible_a + visible_b)
        match = float(np.fmax(amodal_iou, visible_iou))
        if match >= MIN_IOU:
            hidden_a = a.amodal[i][part] & ~a.visible[i][part]
            hidden_b = b.amodal[j][part] & ~b.visible[j][part]
            hidden_px = amodal_a - visible_a + amodal_b - visible_b
            hidden_iou = _ratio(np.count_nonzero(hidden_a & hidden_b), hidden_px)
            found.append((match, _Pair(i, j, amodal_iou, visible_iou, hidden_iou)))
    found.sort(key=lambda row: (-row[0], row[1].before, row[1].after))
    pairs: list[_Pair] = []
    for _, pair in found:
        if all(pair.before != p.before and pair.after != p.after for p in pairs):
            pairs.append(pair)
    return pairs


def _ratio(common_px: int, sum_px: int) -> float:
    """IoU from what two masks share and the sum of their areas; NaN of two empty masks."""
    union_px = int(sum_px) - common_px
    return common_px / union_px if union_px else float("nan")
