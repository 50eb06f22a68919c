"""Occlusion order and removal order of objects, from masks, and from depth where there is any.

An object i hides object j where i is seen inside the part of j that is not (the area rule of
COCOA and PCNet's ground truth, Zhan et al. 2020, stated on complete masks). Occlusion is a
relation in the image: it says nothing about which object rests on which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_perception.depth_ordering import (
    DEPTH_CONFIG,
    border_depth,
    edge_confidence,
)
from amodal_perception.masks import mask_windows
from amodal_perception.structures import BoolArray, FloatArray, Instances, IntArray, OcclusionGraph


@dataclass(frozen=True)
class OrderingConfig:
    """Thresholds that decide when an overlap counts as an occlusion.

    Attributes:
        min_overlap_px: fewest occluder-visible pixels inside the hidden part.
        min_hidden_fraction: the same as a fraction (0..1) of the occludee's amodal area. Predicted
            hidden parts are mostly smaller than true ones: half the truth's fraction finds more
            of its edges than it adds wrong ones.
        min_overlap_share: least share (0..1) that an edge's overlap has of the pair's overlap in
            both directions. Two objects seldom hide each other; of predicted masks, the smaller
            overlap is mostly a border that is not quite right. 0 for exact masks; above 0.5 no
            two hide each other.
    """

    min_overlap_px: int = 16
    min_hidden_fraction: float = 0.01
    min_overlap_share: float = 0.3


TRUTH_CONFIG = OrderingConfig(min_hidden_fraction=0.02, min_overlap_share=0.0)
"""For true masks, whose borders are right: this defines the edges of truth."""


def occlusion_graph(
    instances: Instances,
    config: OrderingConfig = OrderingConfig(),
    depth_m: FloatArray | None = None,
) -> OcclusionGraph:
    """Build the occlusion graph: every pair (occluder, occludee), and a removal order.

    The confidence of an edge i -> j is its share of the pair's overlap in both directions, times
    the lower of the two scores: 1 when two certain objects overlap one way only.

    Where depth is known on both sides of a common border, it has its say: an edge whose occluder
    is farther away there is none, an overlap too small to count alone is one where the depth
    agrees, and the confidence is `edge_confidence`, times the lower score.

    Args:
        instances: the objects.
        config: thresholds.
        depth_m: [H, W] float32, metres along the optical axis, aligned with the image; NaN where
            unknown.
    """
    overlap_px = overlap_matrix(instances)
    area = np.maximum(instances.amodal_area_px, 1)
    fraction = overlap_px / area[None, :]
    share = overlap_px / np.maximum(overlap_px + overlap_px.T, 1)
    occludes = (
        (overlap_px >= config.min_overlap_px)
        & (fraction >= config.min_hidden_fraction)
        & (share >= config.min_overlap_share)
    )
    if depth_m is not None:
        depth = border_depth(instances, depth_m)
        is_hint = overlap_px >= max(DEPTH_CONFIG.min_overlap_px, 1)
        occludes = (occludes & ~depth.is_nearer.T) | (depth.is_nearer & is_hint)
        share = np.where(depth.is_known, edge_confidence(share, depth), share)
    edges = np.argwhere(occludes).astype(np.int32)
    i, j = edges[:, 0], edges[:, 1]
    confidence = share[i, j] * np.minimum(instances.scores[i], instances.scores[j])
    order, cycles = removal_order(occludes, instances.occlusion_rate)
    return OcclusionGraph(
        edges=edges,
        confidence=confidence.astype(np.float32),
        overlap_px=overlap_px[i, j].astype(np.int32),
        hidden_fraction=fraction[i, j].astype(np.float32),
        removal_order=order,
        cycles=cycles,
    )


def overlap_matrix(instances: Instances) -> IntArray:
    """Count the pixels of each visible mask inside each hidden part.

    Returns:
        [N, N] int32; entry (i, j) is ``|visible_i and hidden_j|``; the diagonal is 0.
    """
    n = len(instances)
    overlap_px = np.zeros((n, n), np.int32)
    x0, y0, x1, y1 = instances.windows_xyxy.T
    # Hidden parts are much smaller than objects: few others reach into them.
    hidden_xyxy = mask_windows(instances.hidden_crops, instances.windows_xyxy[:, :2])
    hidden_x0, hidden_y0, hidden_x1, hidden_y1 = hidden_xyxy.T
    left, right = np.maximum.outer(x0, hidden_x0), np.minimum.outer(x1, hidden_x1)
    top, bottom = np.maximum.outer(y0, hidden_y0), np.minimum.outer(y1, hidden_y1)
    meet = (left < right) & (top < bottom)
    np.fill_diagonal(meet, False)
    pairs = np.argwhere(meet)
    common_xyxy = np.stack([left, top, right, bottom], axis=-1)[meet]
    corners_xyxy = np.tile(instances.windows_xyxy[:, :2], 2)
    in_i, in_j = (common_xyxy - corners_xyxy[index] for index in pairs.T)
    for (i, j), a, b in zip(pairs.tolist(), in_i.tolist(), in_j.tolist()):
        seen = instances.visible_crops[i][a[1] : a[3], a[0] : a[2]]
        hidden = instances.hidden_crops[j][b[1] : b[3], b[0] : b[2]]
        overlap_px[i, j] = np.count_nonzero(seen & hidden)
    return overlap_px


def reachability(occludes: BoolArray) -> BoolArray:
    """Return the transitive closure: [N, N] bool, (i, j) is True if a chain leads from i to j."""
    reach = occludes.copy()
    for k in np.flatnonzero(occludes.any(axis=0) & occludes.any(axis=1)):
        reach |= np.logical_and.outer(reach[:, k], reach[k])
    return reach


def removal_order(
    occludes: BoolArray, occlusion_rate: np.ndarray
) -> tuple[IntArray, tuple[tuple[int, ...], ...]]:
    """Sort instances topologically: whatever hides comes before what it hides.

    Whoever hides j has fewer other instances in front of it than j has, unless the two are in
    one cycle, and then as many: so sorting by that number is a topological order, and with the
    cycle as second key every cycle stays together. Ties go to the less occluded.

    Args:
        occludes: [N, N] bool, entry (i, j) is True when i hides j.
        occlusion_rate: [N] in [0, 1].

    Returns:
        [N] int32 order, and the cycles, each a tuple of ascending indices.
    """
    n = len(occludes)
    reach = reachability(occludes)
    in_front = reach.sum(axis=0) - reach.diagonal()
    same_cycle = (reach & reach.T) | np.eye(n, dtype=np.bool_)
    cycle_id = same_cycle.argmax(axis=1) if n else np.zeros(0, np.int64)
    order = np.lexsort((np.arange(n), occlusion_rate, cycle_id, in_front)).astype(np.int32)
    starts = np.flatnonzero(np.bincount(cycle_id, minlength=n) > 1)
    return order, tuple(tuple(np.flatnonzero(same_cycle[i]).tolist()) for i in starts)
