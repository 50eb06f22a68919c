import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from helpers.blade_maps import NEIGHBOURS, box_mask, drawn, sigmoid

from training.models.blade.boxinst_losses import (
    inside_boxes,
    mean_of_instances,
    pairwise_loss,
    projection_loss,
    similar_colours,
)
from training.models.blade.pixel_pairs import both_ends


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
