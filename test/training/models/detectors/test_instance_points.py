import torch

from training.models.detectors.instance_points import PointTargets, sample_points


def test_points_are_shared_evenly_by_the_instances():
    # Instance 0 has four points, 1 has one, 2 has two; the scores say which are best.
    positive = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0]], dtype=torch.bool)
    instance = torch.tensor([[0, 0, 0, 0, 1, 2, 2, 2]])
    score = torch.tensor([[0.9, 0.6, 0.8, 0.7, 0.1, 0.2, 0.3, 1.0]])
    standing = PointTargets(positive, instance, score)
    assert sample_points(standing, count=3).index.tolist() == [[0, 6, 4]]
    chosen = sample_points(standing, count=6)
    assert chosen.index.tolist() == [[0, 6, 4, 2, 5, 3]]
    assert chosen.instance.tolist() == [[0, 2, 1, 0, 2, 0]]
    chosen = sample_points(standing, count=9)
    assert chosen.valid.tolist() == [[True] * 7 + [False] * 2]
    nothing = PointTargets(torch.zeros_like(positive), instance, score)
    assert not sample_points(nothing, count=3).valid.any()
