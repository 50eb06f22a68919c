"""The run folder: ``config.json``, ``log.jsonl`` and ``checkpoints/<iteration>/``.

A checkpoint holds ``model.safetensors`` (the weights being trained), ``ema.safetensors`` (their
average: what is exported), ``optimizer.safetensors`` and ``state.json``. Images and random choices
are functions of seed and iteration, so the iteration number is all the random state there is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from amodal_perception import files
from amodal_perception.errors import ConfigError, ModelFileError
from training.config import RESUMABLE, TrainConfig, from_mapping, to_mapping

KEEP = 2
"""Checkpoints that stay: the newest and, should it be damaged, the one before."""


def git_commit() -> str:
    """Return the commit of this checkout, with ``-dirty`` after uncommitted changes."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def start_run(config: TrainConfig, class_names: tuple[str, ...]) -> Path | None:
    """Create the run folder, or check that an existing one belongs to this configuration.

    Returns:
        The newest checkpoint of an existing run, None for a new one.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    run = Path(config.out)
    if (run / "config.json").exists():
        saved, _ = read_config(run)
        differing = [
            field.name
            for field in dataclasses.fields(TrainConfig)
            if field.name not in RESUMABLE
            and getattr(saved, field.name) != getattr(config, field.name)
        ]
        if differing:
            raise ConfigError(
                f"{run}: was started with another {', '.join(differing)}; "
                "give a new out= folder, or the old values to resume"
            )
        return newest(run)
    content = {**to_mapping(config), "class_names": class_names, "commit": git_commit()}
    files.write_json(run / "config.json", content, indent=2)
    return None


def read_config(run: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Read a run's configuration, and the facts stored with it: class_names, commit."""
    path = run / "config.json"
    try:
        content = json.loads(path.read_text())
    except OSError:
        raise ModelFileError(f"{run}: is no run folder (config.json cannot be read)") from None
    except ValueError:
        raise ModelFileError(f"{path}: is not JSON; restore it or train again") from None
    facts = {key: content.pop(key, None) for key in ("class_names", "commit")}
    return from_mapping(content, source=str(path)), facts


def checkpoints_of(run: Path) -> list[Path]:
    """List complete checkpoints, oldest first."""
    folders = [p for p in (run / "checkpoints").glob("*") if p.name.isdigit()]
    return sorted(folders, key=lambda p: int(p.name))


def newest(run: Path) -> Path | None:
    """Return the newest checkpoint, None if there is none."""
    return (checkpoints_of(run) or [None])[-1]


def save(
    run: Path,
    *,
    iteration: int,
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> Path:
    """Write a checkpoint, whole or not at all, and remove old ones."""
    final = run / "checkpoints" / f"{iteration:07d}"
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_dense(model.state_dict()), temporary / "model.safetensors")
    save_file(_dense(ema.state_dict()), temporary / "ema.safetensors")
    moments = {
        f"{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    save_file(_dense(moments), temporary / "optimizer.safetensors")
    files.write_json(temporary / "state.json", {"iteration": iteration})
    shutil.rmtree(final, ignore_errors=True)
    os.rename(temporary, final)
    for old in checkpoints_of(run)[:-KEEP]:
        shutil.rmtree(old)
    return final


def restore(
    checkpoint: Path, *, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load everything a checkpoint holds; return the number of steps already done."""
    model.load_state_dict(_read(checkpoint / "model.safetensors"))
    ema.load_state_dict(_read(checkpoint / "ema.safetensors"))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _read(checkpoint / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(json.loads((checkpoint / "state.json").read_text())["iteration"])


def cut_log(run: Path, iteration: int) -> None:
    """Drop what the log says of steps after `iteration`: they will be done again."""
    path = run / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # A killed run may leave its last line unfinished.
    whole = [line for line in lines if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["iteration"] <= iteration]
    with files.replacing(path) as temporary:
        temporary.write_text("".join(kept))


def averaged_weights(run_or_checkpoint: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a checkpoint, or of a run's newest one.

    Raises:
        ModelFileError: there is no checkpoint, or it cannot be read.
    """
    checkpoint = run_or_checkpoint
    if not (checkpoint / "ema.safetensors").exists():
        found = newest(run_or_checkpoint)
        if found is None:
            raise ModelFileError(f"{run_or_checkpoint}: holds no checkpoint")
        checkpoint = found
    return _read(checkpoint / "ema.safetensors")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: cannot be read ({error}); use an older one") from None


def _dense(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in plain memory order, which the file format asks for."""
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
