"""Build the training state: network, averaged weights (EMA), optimiser and loss scaler."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from training import distributed
from training.loop import initial_weights
from training.loop.checkpoints import Learner
from training.loop.config import TrainConfig
from training.loop.optim import freeze, make_optimizer


def make_learner(
    config: TrainConfig,
    class_names: Sequence[str],
    device: torch.device,
    prepared: Mapping[str, Tensor] = MappingProxyType({}),
) -> Learner:
    """Build the network with its initial weights, its EMA, the optimiser and the loss scaler.

    Args:
        config: the settings.
        class_names: of the data.
        device: to train on.
        prepared: tensors made from the training data, which replace those started from.
    """
    torch.manual_seed(config.seed)
    model = config.model.build(len(class_names))
    if config.weights:
        initial_weights.start_from(model, Path(config.weights), class_names, prepared)
    model.load_state_dict(prepared, strict=False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(model).eval()
    if config.sync_batchnorm:
        model = distributed.convert_sync_batchnorm(model)
    freeze(model, config.frozen)
    return Learner(
        model=model,
        ema=ema,
        optimizer=make_optimizer(model, config),
        scaler=GradScaler(device.type, enabled=config.precision == "fp16"),
    )
