"""Muon optimiser (Jordan et al., 2024): momentum, orthogonalised by Newton-Schulz iteration.

The gradient of a layer is mostly along a few directions. Made orthogonal, an update moves all
directions by as much, the rare ones too, and a network learns in fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ADAM_RMS = 0.2
"""Size of an update's elements, root mean square: AdamW's, so that its rates serve here too (Liu
et al., "Muon is scalable for LLM training", 2025, section 2.2)."""
MIN_SIDE = 16
"""Matrices with fewer rows or columns have no rare directions to speak of."""


class Muon(torch.optim.AdamW):
    """Muon for the groups with ``orthogonal: True``, AdamW for the others.

    A convolution [C', C, h, w] is taken as the matrix [C', C * h * w]. (`torch.optim.Muon` takes
    matrices only.) Learning rate and weight decay are the group's, in both.

    Args:
        groups: of parameters, as other optimisers take them.
        lr: learning rate.
        dtype: in which updates are made orthogonal: bfloat16 serves where it is fast.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, dtype: torch.dtype) -> None:
        super().__init__(groups, lr=lr)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one optimiser step; the gradients of the orthogonal groups are used up."""
        for group in self.param_groups:
            if group.get("orthogonal", False):
                for weight in group["params"]:
                    self._move(weight, group["lr"], group["weight_decay"])
        return super().step(closure)

    def _move(self, weight: Tensor, rate: float, decay: float) -> None:
        if weight.grad is None:
            return
        gradient, weight.grad = weight.grad, None  # so that AdamW leaves it alone
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["step"] = torch.tensor(0.0)  # AdamW needs it when a state is loaded
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        update = orthogonal(matrix.to(self._dtype)).to(weight.dtype)
        weight.mul_(1 - rate * decay)
        weight.add_(update.view(weight.shape), alpha=-rate * ADAM_RMS * max(update.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Orthogonalise a matrix [M, N] by Newton-Schulz iteration: singular values near 1.

    Five steps of Newton and Schulz's iteration with Jordan's coefficients: singular values come
    out between about 0.7 and 1.2, which serves as well and needs no decomposition.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.T if tall else x).contiguous()
