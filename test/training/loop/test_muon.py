"""Muon against PyTorch's own, and which weights it moves."""

import pytest
import torch

from training.loop.config import from_mapping
from training.loop.muon import Muon, orthogonal
from training.loop.optim import make_optimizer


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (32, 32)])
def test_orthogonal_keeps_directions_and_evens_their_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    sizes = u.T @ orthogonal(matrix) @ vh.T
    assert torch.linalg.svdvals(matrix).max() > 1.5 * torch.linalg.svdvals(matrix).min()
    assert ((sizes.diagonal() > 0.6) & (sizes.diagonal() < 1.3)).all()
    torch.testing.assert_close(sizes, sizes.diagonal().diag(), atol=1e-4, rtol=0)


def test_steps_are_those_of_pytorch():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch.optim.Muon: since PyTorch 2.9")
    generator = torch.Generator().manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(24, 4, 3, 3, generator=generator))
    bias = torch.nn.Parameter(torch.randn(24, generator=generator))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    same_bias = torch.nn.Parameter(bias.detach().clone())
    decay = {"weight_decay": 0.1}
    ours = Muon(
        [{"params": [kernel], "orthogonal": True, **decay}, {"params": [bias], **decay}],
        lr=0.01,
        dtype=torch.bfloat16,
    )
    theirs = [
        torch.optim.Muon([matrix], lr=0.01, adjust_lr_fn="match_rms_adamw", **decay),
        torch.optim.AdamW([same_bias], lr=0.01, **decay),
    ]
    for _ in range(3):
        kernel.grad = torch.randn(kernel.shape, generator=generator)
        bias.grad = torch.randn(bias.shape, generator=generator)
        matrix.grad, same_bias.grad = kernel.grad.flatten(1).clone(), bias.grad.clone()
        ours.step()
        for optimizer in theirs:
            optimizer.step()
    # Both round to bfloat16 on the way, at different places.
    torch.testing.assert_close(kernel.flatten(1), matrix, atol=1e-3, rtol=0)
    torch.testing.assert_close(bias, same_bias)


def test_it_moves_the_matrices_of_the_trunk():
    config = from_mapping({"model": "orcnn_light", "optimizer": "muon"}, source="test")
    network = config.model.build(1)
    names = {id(p): name for name, p in network.named_parameters()}
    groups = make_optimizer(network, config).param_groups
    moved = {names[id(p)] for g in groups if g.get("orthogonal") for p in g["params"]}
    others = {names[id(p)] for g in groups if not g.get("orthogonal") for p in g["params"]}
    assert moved | others == set(names.values())
    assert not moved & others
    assert {name.split(".")[0] for name in moved} == {"backbone", "fpn", "detector"}
    assert {"detector.score.weight", "detector.box.weight"} <= others
    assert all(dict(network.named_parameters())[name].ndim == 4 for name in moved)
