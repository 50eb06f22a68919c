import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.blade.pixel_pairs import both_ends, log_different, log_same

NEIGHBOURS = [(dy, dx) for dy, dx in itertools.product((-2, 0, 2), repeat=2) if (dy, dx) != (0, 0)]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


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
