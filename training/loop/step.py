"""One optimiser step: forward in mixed precision, backward, clipping, averaged weights (EMA)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training import distributed
from training.loop.batch_pictures import save_batch
from training.loop.checkpoints import Learner
from training.loop.config import TrainConfig
from training.loop.optim import learning_rate, update_ema
from training.models import Network
from training.structures import Batch


class LossTerms(nn.Module):
    """A network's `losses` as the forward pass, which is what DDP wraps."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        return self.model.losses(batch, generator)


def step(
    network: nn.Module, learner: Learner, batch: Batch, config: TrainConfig, iteration: int
) -> dict[str, float]:
    """Do one optimiser step; return the terms of the loss, means over the processes.

    Raises:
        ConfigError: loss or gradient is not finite; the batch is saved and nothing is changed.
    """
    draw = iteration * distributed.world_size() + distributed.rank()
    torch.manual_seed(config.seed * 1_000_003 + draw)  # for what draws without asking, as dropout
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + draw)
    dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
    with torch.autocast(batch.images.device.type, dtype, enabled=config.precision != "fp32"):
        losses: dict[str, Tensor] = network(batch, generator)
    total = torch.stack(list(losses.values())).sum()
    means = distributed.all_reduce_mean(torch.stack([total, *losses.values()]).float())
    terms = dict(zip(("loss", *losses), means.tolist()))
    if not math.isfinite(terms["loss"]):
        raise not_finite("loss", terms, batch, config, iteration)

    for group in learner.optimizer.param_groups:
        group["lr"] = learning_rate(config, iteration)
    learner.optimizer.zero_grad()
    learner.scaler.scale(total).backward()
    learner.scaler.unscale_(learner.optimizer)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), config.clip_norm or math.inf)
    terms |= {"gradient_norm": norm.item(), "learning_rate": learning_rate(config, iteration)}
    # With fp16 too large a scale makes such gradients; the scaler leaves the step out and shrinks.
    if not learner.scaler.is_enabled() and not math.isfinite(terms["gradient_norm"]):
        raise not_finite("gradient", terms, batch, config, iteration)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if distributed.rank() == 0:
        update_ema(learner.ema, learner.model, config, iteration)
    return terms


def not_finite(
    what: str, terms: dict[str, float], batch: Batch, config: TrainConfig, iteration: int
) -> ConfigError:
    """Save the batch that broke the run, and say where."""
    name = f"not_finite_{iteration + 1:07d}"
    folder = Path(config.out) / name / f"process_{distributed.rank()}"
    save_batch(folder, batch)
    listed = ", ".join(f"{term} {value:.3g}" for term, value in terms.items())
    return ConfigError(
        f"iteration {iteration + 1}: the {what} is not finite ({listed}); look at the batch in "
        f"{folder}; lower learning_rate (now {config.learning_rate:g}) in a new run, from "
        f"weights={config.out} if it has a checkpoint"
    )
