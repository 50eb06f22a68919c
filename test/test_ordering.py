import numpy as np
import pytest
from helpers.scenes import instances, mask, stacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amodal_perception.ordering import (
    OrderingConfig,
    occlusion_graph,
    overlap_matrix,
    reachability,
    removal_order,
)
from amodal_perception.structures import Instances

ANY = OrderingConfig(min_overlap_px=1, min_hidden_fraction=0.0, min_overlap_share=0.0)


def test_the_upper_of_two_hides_the_lower():
    graph = occlusion_graph(stacked(mask("##..", "##.."), mask(".##.", ".##.")), ANY)
    assert graph.edges.tolist() == [[0, 1]]
    assert graph.overlap_px.tolist() == [2]
    assert graph.hidden_fraction.tolist() == [0.5]
    assert graph.confidence.tolist() == [1.0]
    assert graph.removal_order.tolist() == [0, 1]
    assert graph.acyclic


def test_objects_that_only_touch_do_not_hide_each_other():
    graph = occlusion_graph(stacked(mask("##.."), mask("..##")), ANY)
    assert len(graph.edges) == 0
    assert graph.removal_order.tolist() == [0, 1]


def test_what_the_scene_hides_makes_no_edge():
    # The bin's wall, which is no instance, hides half of the only object.
    graph = occlusion_graph(instances([mask("####")], [mask("##..")]), ANY)
    assert len(graph.edges) == 0


def test_no_instances_give_an_empty_graph():
    graph = occlusion_graph(Instances.empty((4, 5)))
    assert graph.edges.shape == (0, 2)
    assert graph.removal_order.shape == (0,)
    assert graph.acyclic


def test_mutual_occlusion_is_a_cycle_and_is_told():
    a, b = mask("###.", "###."), mask(".###", ".###")
    a_seen, b_seen = mask("###.", "#..."), mask("...#", ".###")
    graph = occlusion_graph(instances([a, b], [a_seen, b_seen]), ANY)
    assert graph.edges.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(graph.confidence, 0.5)
    assert graph.cycles == ((0, 1),)


def test_the_lesser_cover_of_a_pair_is_no_occlusion():
    a, b = mask("####...", "####..."), mask(".######", ".######")
    # Of the six common cells a covers four, b one, and neither the last.
    pair = instances([a, b], [mask("####...", "#.#...."), mask("....###", ".#..###")])
    lengths = [
        len(occlusion_graph(pair, OrderingConfig(1, 0.0, share)).edges)
        for share in (0.0, 0.19, 0.21, 0.8, 0.81)
    ]
    assert lengths == [2, 2, 1, 1, 0]
    kept = occlusion_graph(pair, OrderingConfig(1, 0.0, 0.21))
    assert kept.edges.tolist() == [[0, 1]]
    assert kept.confidence.tolist() == [np.float32(0.8)]
    assert kept.acyclic


def test_small_overlaps_are_no_occlusion():
    pair = stacked(mask("##......"), mask(".#######"))
    assert len(occlusion_graph(pair, OrderingConfig(2, 0.0)).edges) == 0
    assert len(occlusion_graph(pair, OrderingConfig(1, 0.2)).edges) == 0
    assert len(occlusion_graph(pair, OrderingConfig(1, 0.1)).edges) == 1


RELATIONS = st.integers(0, 8).flatmap(lambda n: hnp.arrays(np.bool_, (n, n)))


@given(RELATIONS)
def test_removal_order_is_a_permutation_that_respects_every_edge_outside_cycles(occludes):
    np.fill_diagonal(occludes, False)
    n = len(occludes)
    order, cycles = removal_order(occludes, np.zeros(n))
    assert sorted(order.tolist()) == list(range(n))
    place = np.argsort(order)
    reach = reachability(occludes)
    for i, j in np.argwhere(occludes):
        assert reach[j, i] or place[i] < place[j]
    for cycle in cycles:
        places = sorted(place[list(cycle)])
        assert places == list(range(places[0], places[0] + len(cycle)))
    in_cycles = {i for cycle in cycles for i in cycle}
    assert in_cycles == {i for i in range(n) if reach[i, i]}


@given(hnp.arrays(np.bool_, (4, 7, 9)), hnp.arrays(np.bool_, (4, 7, 9)))
def test_overlap_matrix_equals_the_plain_definition(amodal, seen):
    drawn = instances(list(amodal), list(amodal & seen))
    hidden = drawn.amodal & ~drawn.visible
    expected = np.einsum("ihw,jhw->ij", drawn.visible.astype(int), hidden.astype(int))
    np.fill_diagonal(expected, 0)
    np.testing.assert_array_equal(overlap_matrix(drawn), expected)


@given(hnp.arrays(np.bool_, (3, 6, 6)), hnp.arrays(np.bool_, (3, 6, 6)))
def test_every_edge_has_the_evidence_that_its_definition_asks(amodal, seen):
    drawn = instances(list(amodal), list(amodal & seen))
    graph = occlusion_graph(drawn, ANY)
    for (i, j), overlap_px in zip(graph.edges, graph.overlap_px):
        hidden = drawn.amodal[j] & ~drawn.visible[j]
        assert overlap_px == (drawn.visible[i] & hidden).sum() > 0
    assert ((graph.confidence >= 0) & (graph.confidence <= 1)).all()


@pytest.mark.parametrize("n", [0, 1, 5])
def test_reachability_of_a_chain(n):
    chain = np.eye(n, k=1, dtype=np.bool_)
    np.testing.assert_array_equal(reachability(chain), np.triu(np.ones((n, n), np.bool_), 1))
