"""Optimiser, learning-rate schedule and exponential moving average (EMA) of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from amodal_perception.errors import ConfigError
from training.loop.config import TrainConfig
from training.loop.muon import MIN_SIDE, Muon

SHARED = ("backbone", "fpn", "detector")


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimiser: AdamW, SGD with momentum as in the papers' schedules, or Muon.

    Muon updates the weight matrices of backbone, pyramid and detector, AdamW the rest: with Muon
    the mask heads, which see a few places of an image, did worse in the one comparison made.

    Biases and normalisation do not decay. (Detectron's schedules let biases decay: at 1e-4 that
    makes no difference that can be measured.)
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decaying = [p for p in trained if p.ndim > 1]
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "muon":
        matrices = {
            id(p)
            for name, part in model.named_children()
            if name in SHARED
            for p in part.parameters()
            if p.ndim > 1 and min(p.flatten(1).shape) >= MIN_SIDE
        }
        groups[0]["params"] = [p for p in decaying if id(p) not in matrices]
        groups.append(
            {
                "params": [p for p in decaying if id(p) in matrices],
                "weight_decay": config.weight_decay,
                "orthogonal": True,
            }
        )
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    if config.optimizer == "muon":
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        return Muon(groups, lr=config.learning_rate, dtype=dtype)
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Freeze parts of a network: their weights and their normalisation statistics.

    Raises:
        ConfigError: there is no such part.
    """
    parts = dict(model.named_children())
    for name in names:
        if name not in parts:
            raise ConfigError(f"frozen: the network has no '{name}'; it has {', '.join(parts)}")
        parts[name].requires_grad_(False).eval()


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Return a step's learning rate: linear warm-up, then cosine annealing to 0, or step decay."""
    if iteration < config.warmup:
        return config.learning_rate * (iteration + 1) / config.warmup
    if config.schedule == "step":
        return config.learning_rate * config.gamma ** sum(iteration >= s for s in config.steps)
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, config: TrainConfig, iteration: int) -> None:
    """Update the exponential moving average (EMA) of weights and normalisation statistics.

    Early weights are far from good: the average is over a window that grows with the run.
    """
    decay = min(config.ema_decay, (1 + iteration) / (10 + iteration))
    for average, value in zip(ema.state_dict().values(), model.state_dict().values()):
        if average.dtype.is_floating_point:
            average.lerp_(value, 1 - decay)
        else:
            average.copy_(value)
