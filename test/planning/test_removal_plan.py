from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances, mask, stacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.ordering import OrderingConfig, occlusion_graph, reachability, removal_order
from amodal_perception.planning.removal_plan import removal_plan
from amodal_perception.structures import OcclusionGraph

ANY = OrderingConfig(min_overlap_px=1, min_hidden_fraction=0.0, min_overlap_share=0.0)


def graph_of(n: int, edges: dict[tuple[int, int], float]) -> OcclusionGraph:
    pairs = np.array(list(edges), np.int32).reshape(-1, 2)
    occludes = np.zeros((n, n), np.bool_)
    occludes[pairs[:, 0], pairs[:, 1]] = True
    order, cycles = removal_order(occludes, np.zeros(n))
    return OcclusionGraph(
        edges=pairs,
        confidence=np.array(list(edges.values()), np.float32),
        overlap_px=np.ones(len(edges), np.int32),
        hidden_fraction=np.ones(len(edges), np.float32),
        removal_order=order,
        cycles=cycles,
    )


def test_holds_all_that_is_in_front_and_nothing_else():
    pile = stacked(
        mask("##......"), mask(".##....."), mask("..##...."), mask("......##"), mask("...####.")
    )
    graph = occlusion_graph(pile, ANY)
    assert removal_plan(graph, 2).remove_first == (0, 1)
    assert removal_plan(graph, 0).remove_first == ()
    assert removal_plan(graph, 4).remove_first == (0, 3, 1, 2)


def test_tells_the_edges_it_follows_from():
    graph = graph_of(4, {(0, 1): 0.9, (1, 2): 0.8, (0, 3): 0.7})
    assert removal_plan(graph, 2).edges == (0, 1)
    assert removal_plan(graph, 3).edges == (2,)
    assert removal_plan(graph, 0).edges == ()


def test_cycle_with_the_target_names_the_target_too():
    graph = graph_of(4, {(0, 1): 1, (1, 2): 1, (2, 0): 1, (2, 3): 1})
    plan = removal_plan(graph, 1)
    assert sorted(plan.remove_first) == [0, 2]
    assert plan.cycles == ((0, 1, 2),)


def test_cycle_in_front_of_the_target_is_told():
    graph = graph_of(4, {(0, 1): 1, (1, 0): 1, (1, 2): 1})
    plan = removal_plan(graph, 2)
    assert sorted(plan.remove_first) == [0, 1]
    assert plan.cycles == ((0, 1),)


def test_cycle_elsewhere_is_not_told():
    graph = graph_of(4, {(0, 1): 1, (1, 0): 1, (2, 3): 1})
    assert removal_plan(graph, 3).cycles == ()


def test_weak_edges_are_not_followed_but_told():
    pair = stacked(mask("##.."), mask(".###"))
    weak = instances(list(pair.amodal), list(pair.visible), scores=[0.9, 0.3])
    graph = occlusion_graph(weak, ANY)
    sure, doubtful = (removal_plan(graph, 1, minimum) for minimum in (0.2, 0.5))
    assert (sure.remove_first, sure.edges, sure.weak_edges) == ((0,), (0,), ())
    assert (doubtful.remove_first, doubtful.edges, doubtful.weak_edges) == ((), (), (0,))


def test_order_is_that_of_the_followed_edges():
    """All edges together form a cycle, in which any order goes; without the weak one, one does."""
    graph = graph_of(4, {(2, 1): 0.9, (1, 0): 0.9, (0, 2): 0.1, (0, 3): 0.9})
    plan = removal_plan(graph, 3, 0.5)
    assert plan.remove_first == (2, 1, 0)
    assert plan.cycles == ()
    assert plan.weak_edges == (2,)


@pytest.mark.parametrize("n", [1, 3])
def test_nothing_hides_a_lone_object(n):
    plan = removal_plan(graph_of(n, {}), n - 1)
    assert (plan.remove_first, plan.cycles, plan.edges, plan.weak_edges) == ((), (), (), ())


@given(hnp.arrays(np.bool_, (6, 6)), st.randoms(use_true_random=False), st.integers(0, 5))
def test_plan_is_the_smallest_that_frees_the_target_in_an_order_that_works(occludes, rng, target):
    np.fill_diagonal(occludes, False)
    graph = graph_of(6, {(int(i), int(j)): rng.random() for i, j in np.argwhere(occludes)})
    plan = removal_plan(graph, target, 0.5)
    strong = np.zeros_like(occludes)
    for (i, j), confidence in zip(graph.edges, graph.confidence):
        strong[i, j] = confidence >= 0.5
    reach = reachability(strong)
    assert set(plan.remove_first) == set(np.flatnonzero(reach[:, target]).tolist()) - {target}
    place = {member: at for at, member in enumerate(plan.remove_first)}
    for i, j in np.argwhere(strong):
        if i in place and j in place and not reach[j, i]:
            assert place[i] < place[j]
    concerned = set(plan.remove_first) | {target}
    in_cycles = {member for cycle in plan.cycles for member in cycle}
    assert in_cycles == {i for i in concerned if reach[i, i]}
    ends = {k for k, (_, j) in enumerate(graph.edges) if j in concerned}
    assert set(plan.edges) | set(plan.weak_edges) == ends
    assert not set(plan.edges) & set(plan.weak_edges)
