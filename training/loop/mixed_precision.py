"""Choose the floating-point precision of a run: bfloat16 where the device computes in it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from amodal_perception.benchmark.cpu import cpu_info
from training import distributed
from training.loop import checkpoints


def precision_of(run: Path, device: torch.device) -> str:
    """Return what a run was started with, or what is best on this device; say which."""
    precision = "bf16" if has_bf16(device) else "fp32"
    if distributed.rank() == 0:
        if (run / "config.json").exists():
            precision = checkpoints.read_config(run)[0].precision
        print(f"precision {precision} on this {device.type}", file=sys.stderr)
    return distributed.broadcast(precision)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16; others emulate it, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = {word for name in ("flags", "Features") for word in cpu_info(name).split()}
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
