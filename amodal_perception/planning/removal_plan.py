"""Removal plan: the objects to take away before a target, in order, and the weak edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amodal_perception.ordering import reachability, removal_order
from amodal_perception.structures import OcclusionGraph


@dataclass(frozen=True)
class RemovalPlan:
    """A plan for one target; all numbers are instance indices, or indices of edges.

    It is about what the camera sees. Two objects may touch, or rest on each other, without one
    hiding any of the other: no plan knows of that.

    Attributes:
        target: the object to lift.
        remove_first: what hides it, directly or through others, front first, without the target.
        cycles: groups among these and the target that hide each other, so that no order within
            the group is right; the target is in one if something hides it that it hides too.
        edges: edges that the plan follows from.
        weak_edges: edges that were left out for want of confidence, although they end at the
            target or at something to remove: what hides it besides, if they are true.
    """

    target: int
    remove_first: tuple[int, ...]
    cycles: tuple[tuple[int, ...], ...]
    edges: tuple[int, ...]
    weak_edges: tuple[int, ...]


def removal_plan(graph: OcclusionGraph, target: int, min_confidence: float = 0.0) -> RemovalPlan:
    """Plan the removal of all that hides one object.

    Args:
        graph: the scene's occlusion graph.
        target: instance index.
        min_confidence: edges weaker than this (0..1) are not followed, but listed.

    Returns:
        The smallest set after whose removal, by the followed edges, nothing hides the target.
    """
    n = len(graph.removal_order)
    followed = graph.confidence >= min_confidence
    occludes = np.zeros((n, n), np.bool_)
    occludes[graph.edges[followed, 0], graph.edges[followed, 1]] = True
    concerned = reachability(occludes)[:, target]
    concerned[target] = True
    # Weak edges may have closed a cycle, so the scene's own order need not hold here; it decides
    # between equals.
    rank = np.empty(n)
    rank[graph.removal_order] = np.arange(n) / max(n, 1)
    order, cycles = removal_order(occludes, rank)
    touches = concerned[graph.edges[:, 1]] if n else np.zeros(0, np.bool_)
    return RemovalPlan(
        target=target,
        remove_first=tuple(int(i) for i in order if concerned[i] and i != target),
        cycles=tuple(cycle for cycle in cycles if concerned[cycle[0]]),
        edges=tuple(np.flatnonzero(followed & touches).tolist()),
        weak_edges=tuple(np.flatnonzero(~followed & touches).tolist()),
    )
