from __future__ import annotations

import numpy as np
import pytest
from helpers.scenes import instances
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_perception.depth_ordering import (
    DepthOrderingConfig,
    border_depth,
    border_votes,
    edge_confidence,
)
from amodal_perception.ordering import OrderingConfig, occlusion_graph
from amodal_perception.structures import Instances

SIZE_HW = 48, 64
NEAR_M, FAR_M = 0.60, 0.62


def two_squares(hidden_columns: int) -> tuple[Instances, np.ndarray]:
    """Draw two squares that meet at column 32; the right one goes on below the left one.

    Returns:
        The instances (0 is the left one) and their depth: the left one is nearer.
    """
    left, right = np.zeros(SIZE_HW, np.bool_), np.zeros(SIZE_HW, np.bool_)
    left[10:34, 10:32] = True
    right[10:34, 32:56] = True
    whole = right.copy()
    whole[10:34, 32 - hidden_columns : 32] = True
    depth_m = np.full(SIZE_HW, 1.0, np.float32)
    depth_m[left], depth_m[right] = NEAR_M, FAR_M
    return instances([left, whole], [left, right]), depth_m


def edges_of(seen: Instances, depth_m=None, **config) -> list[list[int]]:
    graph = occlusion_graph(seen, OrderingConfig(**config), depth_m)
    return graph.edges.tolist()


def test_votes_by_hand():
    """24 rows meet, and on each side 4 columns have the other object 4 pixels away."""
    seen, depth_m = two_squares(0)
    nearer, votes = border_votes(seen, depth_m, DepthOrderingConfig())
    expected = 24 * 4
    assert votes.tolist() == [[0, expected], [expected, 0]]
    assert nearer.tolist() == [[0, expected], [0, 0]]


def test_unknown_depth_does_not_vote():
    seen, depth_m = two_squares(0)
    depth_m[:, 30:32] = np.nan
    _, votes = border_votes(seen, depth_m, DepthOrderingConfig())
    assert votes[0, 1] == 24 * 2


def test_a_small_step_is_noise():
    seen, depth_m = two_squares(0)
    depth_m[depth_m == np.float32(FAR_M)] = NEAR_M + 0.004
    depth = border_depth(seen, depth_m)
    assert depth.is_known[0, 1]
    assert not depth.is_nearer.any()


def test_depth_finds_what_is_too_little_for_the_masks():
    """24 of 600 pixels are hidden: enough; with a threshold of 32 they are not, but for depth."""
    seen, depth_m = two_squares(1)
    assert edges_of(seen) == [[0, 1]]
    assert edges_of(seen, min_overlap_px=32) == []
    assert edges_of(seen, depth_m, min_overlap_px=32) == [[0, 1]]
    no_hint, depth_m = two_squares(0)
    assert edges_of(no_hint, depth_m) == []  # they only touch in the image


def test_depth_refutes_the_masks():
    seen, depth_m = two_squares(3)
    behind = np.where(depth_m == np.float32(NEAR_M), np.float32(1.2), depth_m)
    assert edges_of(seen) == edges_of(seen, depth_m) == [[0, 1]]
    assert edges_of(seen, behind) == []


def test_without_depth_at_the_border_masks_decide():
    seen, depth_m = two_squares(3)
    unknown = np.full_like(depth_m, np.nan)
    by_masks = occlusion_graph(seen)
    for depth in (None, unknown):
        graph = occlusion_graph(seen, depth_m=depth)
        np.testing.assert_array_equal(graph.edges, by_masks.edges)
        np.testing.assert_array_equal(graph.confidence, by_masks.confidence)


def test_depth_that_agrees_makes_surer_than_depth_without_a_step():
    seen, depth_m = two_squares(3)
    level = np.where(depth_m == np.float32(FAR_M), np.float32(NEAR_M), depth_m)
    agreed, flat = (occlusion_graph(seen, depth_m=z).confidence[0] for z in (depth_m, level))
    assert 0.5 < flat < agreed <= 1


def test_depth_must_be_aligned():
    seen, _ = two_squares(0)
    with pytest.raises(ValueError, match="depth is"):
        occlusion_graph(seen, depth_m=np.ones((24, 32), np.float32))


def test_objects_at_opposite_sides_of_the_image_do_not_meet():
    masks = np.zeros((2, *SIZE_HW), np.bool_)
    masks[0, :, :3] = masks[1, :, -3:] = True
    _, votes = border_votes(instances(masks), np.ones(SIZE_HW, np.float32), DepthOrderingConfig())
    assert votes.sum() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_few_objects(count):
    seen, depth_m = two_squares(0)
    some = seen[np.arange(count)]
    assert border_depth(some, depth_m).is_nearer.shape == (count, count)
    assert edges_of(some, depth_m) == []


drawings = st.integers(0, 2**31)


@settings(deadline=None, max_examples=40)
@given(drawings, st.integers(2, 6), st.integers(1, 6))
def test_votes_are_those_of_a_plain_loop(seed, count, border_px):
    rng = np.random.default_rng(seed)
    labels = np.zeros((20, 24), np.int64)
    for i in range(count):
        y, x = rng.integers(0, 14), rng.integers(0, 18)
        labels[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = i + 1
    seen = instances([labels == i + 1 for i in range(count)])
    depth_m = rng.uniform(0.5, 0.52, labels.shape).astype(np.float32)
    depth_m[rng.random(labels.shape) < 0.2] = np.nan
    config = DepthOrderingConfig(border_px=border_px)
    nearer, votes = border_votes(seen, depth_m, config)
    steps = (0, border_px), (border_px, 0)
    expected_nearer, expected = np.zeros_like(nearer), np.zeros_like(votes)
    for y, x in np.ndindex(*labels.shape):
        for down, right in steps:
            v, u = y + down, x + right
            if not (v < labels.shape[0] and 0 <= u < labels.shape[1]):
                continue
            a, b = labels[y, x] - 1, labels[v, u] - 1
            step_m = depth_m[v, u] - depth_m[y, x]
            if a < 0 or b < 0 or a == b or np.isnan(step_m):
                continue
            expected[a, b] += 1
            expected[b, a] += 1
            expected_nearer[a, b] += step_m > config.min_step_m
            expected_nearer[b, a] += step_m < -config.min_step_m
    np.testing.assert_array_equal(votes, expected)
    np.testing.assert_array_equal(nearer, expected_nearer)


@settings(deadline=None, max_examples=40)
@given(drawings)
def test_what_holds_of_every_graph_holds_with_depth(seed):
    rng = np.random.default_rng(seed)
    amodal = np.zeros((5, *SIZE_HW), np.bool_)
    for one in amodal:
        y, x = rng.integers(0, 30), rng.integers(0, 40)
        one[y : y + rng.integers(6, 18), x : x + rng.integers(6, 24)] = True
    visible = amodal.copy()
    for i in range(5):
        visible[i] &= ~amodal[:i].any(axis=0)
    seen = instances(amodal, visible)
    depth_m = rng.uniform(0.5, 0.6, SIZE_HW).astype(np.float32)
    graph = occlusion_graph(seen, depth_m=depth_m)
    assert sorted(graph.removal_order.tolist()) == list(range(5))
    assert np.all(graph.overlap_px > 0)
    assert np.all((graph.confidence > 0) & (graph.confidence <= 1))
    for i, j in graph.edges.tolist():
        assert np.any(visible[i] & amodal[j] & ~visible[j])


def test_confidence_grows_with_what_masks_and_depth_say():
    seen, depth_m = two_squares(3)
    depth = border_depth(seen, depth_m)
    shares = np.array([[0.0, 0.3], [0.3, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    unsure, sure = (edge_confidence(share, depth)[0, 1] for share in shares)
    assert unsure < sure
    assert edge_confidence(shares[0], depth)[1, 0] < unsure
