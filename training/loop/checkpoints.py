"""Checkpoints and the run folder.

    config.json         every setting, the class names, the commit
    provenance.json    of every start: command, commit, packages, machine
    log.jsonl           losses and validation figures by iteration; tensorboard/ has them too
    checkpoints/<iteration>/
    best.safetensors    the averaged weights of the best evaluation; its figures are in the header

A checkpoint holds ``model.safetensors`` (the weights being trained), ``ema.safetensors`` (their
average: what is evaluated and exported), ``optimizer.safetensors`` and ``state.json``. Images and
random choices are functions of seed and iteration, so the iteration number is all the random state
there is.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from amodal_perception import files
from amodal_perception.errors import ConfigError, ModelFileError
from training.loop import provenance
from training.loop.config import RESUMABLE, TrainConfig, from_mapping, to_mapping
from training.models import Network

AVERAGED = "ema.safetensors"
REMEDY = "remove this checkpoint, and the one before is used"
BEST = "best.safetensors"


class Learner(NamedTuple):
    """Training state: network, EMA, optimiser, loss scaler; what a checkpoint holds.

    Attributes:
        model: the network being trained.
        ema: its averaged weights, in evaluation mode.
        optimizer: with its moments.
        scaler: of the loss, for fp16; disabled otherwise.
    """

    model: Network
    ema: Network
    optimizer: torch.optim.Optimizer
    scaler: GradScaler


def start_run(
    config: TrainConfig, class_names: tuple[str, ...], device: torch.device
) -> Path | None:
    """Create the run folder, or check that an existing one belongs to this configuration.

    Returns:
        The newest checkpoint of an existing run, None for a new one.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    run = Path(config.out)
    checkpoint = None
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
        checkpoint = newest(run)
    facts = {"class_names": class_names, "commit": provenance.git_commit()}
    files.write_json(run / "config.json", {**to_mapping(config), **facts}, indent=2)
    path = run / "provenance.json"
    starts = _read_json(path) if path.exists() else []
    start = {"after": checkpoint.name if checkpoint else None, **provenance.describe(device)}
    files.write_json(path, [*starts, start], indent=2)
    return checkpoint


def run_of(path: Path) -> Path:
    """Return the run folder of a run folder, or of a checkpoint in one.

    Raises:
        ModelFileError: neither.
    """
    for folder in (path, *path.absolute().parents[:2]):
        if (folder / "config.json").exists():
            return folder
    raise ModelFileError(f"{path}: is no run folder (config.json cannot be read)")


def read_config(path: Path) -> tuple[TrainConfig, dict[str, Any]]:
    """Read the settings of a run or checkpoint, and what is stored beside: class_names, commit."""
    path = run_of(path) / "config.json"
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: cannot be read as JSON ({error}); restore it or train again"
        ) from None
    facts = {key: content.pop(key, None) for key in ("class_names", "commit")}
    return from_mapping(content, source=str(path)), facts


def checkpoints_of(run: Path) -> list[Path]:
    """List complete checkpoints, oldest first."""
    folders = [p for p in (run / "checkpoints").glob("*") if p.name.isdigit()]
    return sorted(folders, key=lambda p: int(p.name))


def newest(run: Path) -> Path | None:
    """Return the newest checkpoint, None if there is none."""
    return next(reversed(checkpoints_of(run)), None)


def save(run: Path, iteration: int, learner: Learner, keep: int) -> Path:
    """Write a checkpoint, whole or not at all, and remove all but the newest `keep`."""
    final = run / "checkpoints" / f"{iteration:07d}"
    moments = {
        f"{index}.{name}": value
        for index, values in learner.optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    with _atomic_write_folder(final) as folder:
        save_file(_dense(learner.model.state_dict()), folder / "model.safetensors")
        save_file(_dense(learner.ema.state_dict()), folder / AVERAGED)
        save_file(_dense(moments), folder / "optimizer.safetensors")
        state = {"iteration": iteration, "scaler": learner.scaler.state_dict()}
        files.write_json(folder / "state.json", state)
    for old in checkpoints_of(run)[:-keep]:
        shutil.rmtree(old)
    return final


def restore(checkpoint: Path, learner: Learner) -> int:
    """Load everything a checkpoint holds; return the number of steps already done."""
    learner.model.load_state_dict(_read(checkpoint / "model.safetensors"))
    learner.ema.load_state_dict(_read(checkpoint / AVERAGED))
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _read(checkpoint / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        moments.setdefault(int(index), {})[name] = value
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state = _read_json(checkpoint / "state.json")
    learner.scaler.load_state_dict(state["scaler"])
    return int(state["iteration"])


def keep_best(
    run: Path, iteration: int, ema: nn.Module, metrics: dict[str, float], best_metric: str
) -> bool:
    """Replace the best weights and their figures if these are better; tell whether they are.

    Both are in one file, so that they cannot disagree.

    Args:
        run: run folder.
        iteration: steps done.
        ema: the averaged weights.
        metrics: their figures; while nothing is found, some have no value.
        best_metric: name of the metric that chooses; higher is better.
    """
    if metrics.get(best_metric, -math.inf) <= best_metrics(run).get(best_metric, -math.inf):
        return False
    # One entry, as the format keeps several in no fixed order.
    header = {"best": json.dumps({"iteration": iteration, "metrics": metrics})}
    with files.atomic_write(run / BEST) as temporary:
        save_file(_dense(ema.state_dict()), temporary, header)
    return True


def best_metrics(run: Path) -> dict[str, float]:
    """Return the figures of the best weights so far; empty if there are none."""
    path = run / BEST
    if not path.exists():
        return {}
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["best"])["metrics"]
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: cannot be read ({error}); remove it") from None


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """Read the averaged weights of a run's newest checkpoint, of another, or of its best.

    Args:
        path: run folder, checkpoint folder, or ``best.safetensors``.

    Raises:
        ModelFileError: there is no checkpoint, or it cannot be read.
    """
    if path.is_file():
        return _read(path)
    if (path / AVERAGED).exists():
        return _read(path / AVERAGED)
    checkpoint = newest(path)
    if checkpoint is None:
        raise ModelFileError(f"{path}: holds no checkpoint")
    return _read(checkpoint / AVERAGED)


@contextmanager
def _atomic_write_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of `final` when all is written."""
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(final, ignore_errors=True)
    os.rename(temporary, final)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read ({error}); {REMEDY}") from None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path}: cannot be read ({error}); {REMEDY}") from None


def _dense(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in plain memory order, which the file format asks for."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
