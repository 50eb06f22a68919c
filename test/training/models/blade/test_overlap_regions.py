import itertools
import math

import pytest
import torch
from helpers.blade_maps import NEIGHBOURS, box_mask, drawn, sigmoid

from training.models.blade.overlap_regions import (
    fuse,
    neighbour_loss,
    overlap_regions,
    uniform_loss,
)


def test_overlap_region_is_the_box_around_all_intersections():
    boxes = torch.tensor(
        [[[10, 10, 40, 40], [30, 5, 60, 20], [0, 35, 12, 60], [80, 80, 90, 90], [40, 10, 50, 30]]],
        dtype=torch.float32,
    )
    valid = torch.ones(1, 5, dtype=torch.bool)
    found, present = overlap_regions(boxes, valid)
    n = boxes.shape[1]
    for i in range(n):
        parts = []
        for j in range(n):
            a, b = boxes[0, i].tolist(), boxes[0, j].tolist()
            part = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
            if i != j and part[0] < part[2] and part[1] < part[3]:
                parts.append(part)
        assert present[0, i] == bool(parts)
        if parts:
            low = [min(p[k] for p in parts) for k in (0, 1)]
            high = [max(p[k] for p in parts) for k in (2, 3)]
            assert found[0, i].tolist() == low + high
    # By hand: box 0 meets 1 at its top right and 2 at its bottom left; it touches 4 only.
    assert found[0, 0].tolist() == [10, 10, 40, 40]
    assert present[0].tolist() == [True, True, True, False, True]
    assert found[0, 3].tolist() == [0, 0, 0, 0]


def test_padding_overlaps_nothing():
    boxes = torch.tensor([[[0, 0, 9, 9], [5, 5, 20, 20], [0, 0, 9, 9]]], dtype=torch.float32)
    _, present = overlap_regions(boxes, torch.tensor([[True, True, False]]))
    assert present.tolist() == [[True, True, False]]
    _, present = overlap_regions(boxes, torch.tensor([[True, False, False]]))
    assert present.tolist() == [[False, False, False]]


def literal_neighbour_loss(amodal, visible, region, inside, threshold):
    height, width = amodal.shape
    cells = list(itertools.product(range(height), range(width)))
    seen = {c for c in cells if region[c] and visible[c] > threshold}
    edges = set()
    for y, x in cells:
        for dy, dx in NEIGHBOURS:
            q = (y + dy, x + dx)
            if 0 <= q[0] < height and 0 <= q[1] < width and ((y, x) in seen or q in seen):
                edges.add(frozenset(((y, x), q)))
    total = 0.0
    for edge in edges:
        p, q = edge
        a, b = sigmoid(amodal[p]), sigmoid(amodal[q])
        c = bool(inside[p]) == bool(inside[q])
        predicted = a * b + (1 - a) * (1 - b)
        total -= math.log(predicted if c else 1 - predicted)
    return total / max(1, len(edges))


CASES = {
    "part seen": (box_mask((7, 9), 2, 1, 7, 6), box_mask((7, 9), 4, 2, 7, 6), None),
    "at the image's corner": (box_mask((7, 9), 0, 0, 4, 5), box_mask((7, 9), 0, 0, 3, 3), None),
    "box of the whole image": (box_mask((7, 9), 0, 0, 9, 7), box_mask((7, 9), 0, 0, 9, 7), None),
    "no overlap": (box_mask((7, 9), 2, 1, 7, 6), box_mask((7, 9), 0, 0, 0, 0), None),
    "all seen": (box_mask((7, 9), 2, 1, 7, 6), box_mask((7, 9), 4, 2, 7, 6), 0.9),
    "all hidden": (box_mask((7, 9), 2, 1, 7, 6), box_mask((7, 9), 4, 2, 7, 6), 0.1),
}


@pytest.mark.parametrize("case", CASES)
def test_connectivity_loss_in_a_loop(case):
    inside, region, everywhere = CASES[case]
    amodal = drawn(2, (7, 9))
    visible = drawn(3, (7, 9)).sigmoid() if everywhere is None else torch.full((7, 9), everywhere)
    visible = visible.double()
    # Beside another instance, so that sums by instance can go wrong.
    both = [
        torch.stack([x, y])
        for x, y in (
            (amodal, -amodal),
            (visible, 1 - visible),
            (region, box_mask((7, 9), 1, 1, 3, 3)),
            (inside, box_mask((7, 9), 0, 0, 5, 5)),
        )
    ]
    found = neighbour_loss(*both, threshold=0.5)
    for i in range(2):
        expected = literal_neighbour_loss(*(x[i] for x in both), 0.5)
        assert found[i].item() == pytest.approx(expected)
    found = uniform_loss(both[0].sigmoid(), both[1], both[2])
    for i in range(2):
        cells = torch.nonzero(both[2][i]).tolist()
        missing = [max(both[1][i, y, x].item() - sigmoid(both[0][i, y, x]), 0.0) for y, x in cells]
        assert found[i].item() == pytest.approx(sum(missing) / max(1, len(missing)))
    if case in ("no overlap", "all hidden"):
        assert neighbour_loss(*(x[:1] for x in both), threshold=0.5) == 0


def test_neighbour_loss_draws_the_amodal_mask_beyond_what_is_seen():
    """Figure 4's active band: neighbours of seen pixels rise, those beyond the box fall."""
    seen = box_mask((12, 12), 3, 3, 6, 9)
    inside, region = box_mask((12, 12), 3, 3, 11, 9), box_mask((12, 12), 3, 3, 11, 9)
    amodal = torch.where(seen, 4.0, -1.0).requires_grad_()
    loss = neighbour_loss(
        amodal[None], seen[None].float(), region[None], inside[None], threshold=0.5
    )
    loss.sum().backward()
    pull = -amodal.grad
    band = box_mask((12, 12), 6, 3, 8, 9)  # within two pixels of what is seen, in the box
    assert (pull[band] > 0).all()
    assert (pull[box_mask((12, 12), 1, 3, 3, 9)] < 0).all()  # outside the box
    assert (pull[box_mask((12, 12), 8, 3, 12, 9)] == 0).all()  # no seen neighbour


def test_uniform_loss_asks_the_amodal_mask_for_what_is_seen_and_no_more():
    visible = torch.tensor([[[0.9, 0.2], [0.5, 0.5]]])
    amodal = torch.tensor([[[0.4, 0.8], [0.1, 0.5]]], requires_grad=True)
    region = torch.tensor([[[True, True], [False, True]]])
    loss = uniform_loss(amodal, visible, region)
    assert loss.item() == pytest.approx(0.5 / 3)
    loss.sum().backward()
    assert (amodal.grad[0] != 0).tolist() == [[True, False], [False, False]]


def test_fusion_by_hand():
    visible, amodal = torch.tensor([0.2, 0.2, 0.2]), torch.tensor([0.9, 0.9, 0.9])
    fused = fuse(visible, amodal, torch.tensor([0.0, 1.0, 0.5]))
    assert fused.tolist() == pytest.approx([0.2, 0.9, 0.55])
