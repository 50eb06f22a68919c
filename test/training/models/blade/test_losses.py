"""BLADE's and BoxInst's targets and losses beside literal loops, on small drawn cases."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.blade.boxinst_losses import (
    inside_boxes,
    mean_of_instances,
    pairwise_loss,
    projection_loss,
    similar_colours,
)
from training.models.blade.overlap_regions import (
    fuse,
    neighbour_loss,
    overlap_regions,
    uniform_loss,
)
from training.models.blade.pixel_pairs import both_ends, log_different, log_same

NEIGHBOURS = [(dy, dx) for dy, dx in itertools.product((-2, 0, 2), repeat=2) if (dy, dx) != (0, 0)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def drawn(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


def box_mask(size_hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(size_hw, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


# Boxes as cells


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ((0, 0, 16, 8), range(4), range(2)),
        ((2, 3, 10, 10), range(2), range(1, 2)),  # centres at 2, 6, 10; the end is outside
        ((2.1, 0, 10.1, 8), range(1, 3), range(2)),
        ((7, 0, 9, 2), range(2, 3), range(1)),  # no centre inside: the cell of the box's middle
        ((28, 12, 32, 16), range(7, 8), range(3, 4)),
    ],
)
def test_cells_inside_a_box(box, columns, rows):
    found = inside_boxes(torch.tensor([box], dtype=torch.float32), (4, 8))[0]
    expected = torch.zeros(4, 8, dtype=torch.bool)
    for y, x in itertools.product(rows, columns):
        expected[y, x] = True
    assert torch.equal(found, expected)


# Projection


def test_projection_loss_in_a_loop():
    logits = drawn(0, (3, 5, 7))
    inside = torch.stack(
        [box_mask((5, 7), *b) for b in ((1, 1, 4, 3), (0, 0, 7, 5), (6, 4, 7, 5))]
    )
    found = projection_loss(logits, inside)
    for i in range(3):
        p = [[sigmoid(z) for z in row] for row in logits[i].tolist()]
        box = inside[i].tolist()
        expected = 0.0
        rows = [(max(p[y]), float(any(box[y]))) for y in range(5)]
        columns = [(max(row[x] for row in p), float(any(row[x] for row in box))) for x in range(7)]
        for pairs in (rows, columns):
            xy = sum(a * b for a, b in pairs)
            expected += 1 - 2 * xy / (sum(a * a + b * b for a, b in pairs) + 1e-5)
        assert found[i].item() == pytest.approx(expected)


def test_projection_of_the_box_itself_costs_nothing():
    inside = box_mask((6, 6), 1, 2, 5, 4)[None]
    assert projection_loss(torch.where(inside, 40.0, -40.0), inside).item() < 1e-4


# Colours and pairs


def test_similarity_is_of_average_colours_in_lab_at_stride_4():
    rng = np.random.default_rng(0)
    image = np.full((16, 24, 3), (90, 120, 60), np.int64)
    image[:, 8:16] = (96, 118, 66)
    image[:, 16:] = (200, 40, 40)
    image = np.clip(image + rng.integers(-3, 4, image.shape), 0, 255).astype(np.uint8)
    cells = image.reshape(4, 4, 6, 4, 3).mean((1, 3)).astype(np.float32) / 255
    lab = cv2.cvtColor(cells, cv2.COLOR_RGB2LAB)
    found = similar_colours(torch.from_numpy(image)[None])
    place = torch.arange(24).reshape(4, 6)
    seen = set()
    for ends, kept in zip(both_ends(place), found):
        for a, b, similar in zip(*(x.flatten().tolist() for x in (*ends, kept[0]))):
            seen.add(similar)
            distance = np.linalg.norm(lab[divmod(a, 6)] - lab[divmod(b, 6)])
            assert similar == (math.exp(-distance / 2) >= 0.3)
    assert seen == {True, False}


def test_each_undirected_pair_inside_the_image_is_met_once():
    height, width = 5, 4
    place = torch.arange(height * width).reshape(height, width)
    met = []
    for a, b in both_ends(place):
        met += [frozenset(pair) for pair in zip(a.flatten().tolist(), b.flatten().tolist())]
    expected = {
        frozenset((y * width + x, (y + dy) * width + x + dx))
        for y, x in itertools.product(range(height), range(width))
        for dy, dx in NEIGHBOURS
        if 0 <= y + dy < height and 0 <= x + dx < width
    }
    assert len(met) == len(expected)
    assert set(met) == expected


def test_pairs_of_a_map_smaller_than_their_distance_are_none():
    assert all(a.numel() == b.numel() == 0 for a, b in both_ends(torch.zeros(2, 1, 2)))


def test_pairwise_loss_in_a_loop_over_all_eight_neighbours():
    R, B, height, width = 3, 2, 6, 7
    logits, image = drawn(1, (R, height, width)), torch.tensor([1, 0, 1])
    # Boxes inside, along the border, and of the whole image.
    boxes = ((2, 1, 5, 4), (0, 3, 3, 6), (0, 0, 7, 6))
    inside = torch.stack([box_mask((height, width), *box) for box in boxes])
    generator = torch.Generator().manual_seed(0)
    similar = [
        torch.rand(B, *a.shape, generator=generator) < 0.6
        for a, _ in both_ends(torch.zeros(height, width))
    ]
    place = torch.arange(height * width).reshape(height, width)
    alike = {}
    for (a, b), kept in zip(both_ends(place), similar):
        for n in range(B):
            pairs = zip(a.flatten().tolist(), b.flatten().tolist(), kept[n].flatten().tolist())
            for p, q, value in pairs:
                alike[n, p, q] = alike[n, q, p] = value
    total, count = 0.0, 0
    for r, y, x, (dy, dx) in itertools.product(range(R), range(height), range(width), NEIGHBOURS):
        v, u = y + dy, x + dx
        if not (0 <= v < height and 0 <= u < width and inside[r, y, x]):
            continue
        if alike[image[r].item(), y * width + x, v * width + u]:
            p, q = sigmoid(logits[r, y, x]), sigmoid(logits[r, v, u])
            total -= math.log(p * q + (1 - p) * (1 - q))
            count += 1
    found = pairwise_loss(logits, inside, similar, image)
    assert found.item() == pytest.approx(total / count)


def test_pairwise_loss_without_similar_pairs_or_instances_is_0():
    logits, inside = torch.randn(2, 5, 5), torch.ones(2, 5, 5, dtype=torch.bool)
    similar = [torch.zeros(1, *a.shape, dtype=torch.bool) for a, _ in both_ends(torch.zeros(5, 5))]
    image = torch.zeros(2, dtype=torch.int64)
    assert pairwise_loss(logits, inside, similar, image) == 0
    assert pairwise_loss(logits[:0], inside[:0], similar, image[:0]) == 0
    assert mean_of_instances(logits[:0, 0, 0]) == 0


@settings(max_examples=200)
@given(st.floats(-30, 30), st.floats(-30, 30))
def test_logarithms_of_one_label_and_of_two_in_64_bits(a, b):
    p, q = sigmoid(a), sigmoid(b)
    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    same = p * q + sigmoid(-a) * sigmoid(-b)
    different = p * sigmoid(-b) + sigmoid(-a) * q
    assert log_same(x, y).exp().item() == pytest.approx(same, rel=1e-7, abs=1e-8)
    assert log_different(x, y).exp().item() == pytest.approx(different, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("function", [log_same, log_different])
def test_saturated_logits_have_finite_gradients(function):
    a = torch.tensor([1e4, -1e4, 1e4, -1e4, 88.0, 0.0], requires_grad=True)
    b = torch.tensor([1e4, -1e4, -1e4, 1e4, -88.0, 1e4], requires_grad=True)
    value = function(a, b)
    value.sum().backward()
    for tensor in (value, a.grad, b.grad):
        assert tensor.isfinite().all()
    # What is confidently wrong is pulled with full strength, what is right not at all.
    wrong = function(torch.tensor(1e4), torch.tensor(-1e4 if function is log_same else 1e4))
    assert wrong.item() == pytest.approx(math.log(2) - 1e4)


# The overlapping region


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


# Connectivity


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
