"""A small PGExp network with a filled memory bank."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.models.pgexp.pgexp import Pgexp, PgexpLightSettings
from training.models.pgexp.prior_lookup import MemoryBankModule

SMALL = replace(
    PgexpLightSettings(),
    slots=12,
    priors=3,
    instances=8,
    channels=16,
    mask_width=8,
    box_width=16,
    flow_width=4,
    code=128,
    mixed_steps=0,
)


def network(num_classes: int = 2, **changes) -> Pgexp:
    """Build a network with a full bank for class 0 and none for the others."""
    torch.manual_seed(0)
    model = replace(SMALL, **changes).build(num_classes)
    if model.prior is not None:
        fill(model.prior.bank, classes=[0])
        torch.nn.init.normal_(model.prior.flow.flow.weight, std=0.3)
        for conv in model.prior.encoder.convs:
            torch.nn.init.normal_(conv.weight)
    return model


def fill(bank: MemoryBankModule, classes: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    for c in classes:
        part = slice(c * bank.slots, (c + 1) * bank.slots)
        bank.codes[part] = torch.rand(bank.codes[part].shape, generator=generator).half() * 3
        bank.deltas[part] = torch.randn(bank.slots, 4, generator=generator) * 0.3
        bank.amodal[part] = torch.randint(
            256, (bank.slots, 98), generator=generator, dtype=torch.uint8
        )
        bank.ids[part] = torch.arange(part.start, part.stop)
        bank.filled[c] = 1
