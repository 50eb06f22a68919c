"""Training configuration: these defaults, then the YAML file, then ``key=value``."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from amodal_perception.errors import ConfigError
from training.datasets import DATASETS
from training.datasets.amodal_coco import CACHE_MB
from training.datasets.augment import Augmentation
from training.models import MODELS, ModelSettings
from training.models.orcnn import OrcnnLightSettings

CHOICES = {
    "optimizer": ("adamw", "sgd", "muon"),
    "schedule": ("cosine", "step"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "device": ("auto", "cpu", "cuda"),
    "dataset": tuple(DATASETS),
}
MINIMUM = {
    **dict.fromkeys(("batch_size", "processes"), 1),
    **dict.fromkeys(("evaluate_every", "checkpoint_every", "keep_checkpoints", "log_every"), 1),
    **dict.fromkeys(
        ("iterations", "learning_rate", "warmup", "clip_norm", "threads", "workers", "cache_mb"), 0
    ),
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a run.

    Attributes:
        model: settings of the network, one of `training.models.MODELS`: in YAML a mapping of its
            ``name`` and what shall differ from its defaults; on the command line ``model.key=``.
        dataset: a name in `training.datasets.DATASETS`, the format of `data`.
        data: folder with the training data.
        val: folder with validation data in the amodal COCO format; empty for none.
        out: run folder; an existing one is resumed.
        weights: what to start from: a run folder, a checkpoint, an exported ``.onnx`` file, or
            torchvision's weights of a backbone or a Mask R-CNN; empty to start from scratch.
        frozen: parts of the network that keep the weights they start from, such as ``[backbone,
            fpn, detector]``, so that only the mask heads learn: for few images, in a third of
            the time.
        input_hw: height and width of the network's input, pixels, divisible by 32.
        iterations: optimiser steps; 0 makes the initial weights a run.
        batch_size: images a step, over all processes.
        optimizer: ``adamw``, ``sgd`` or ``muon``.
        learning_rate: the highest, reached after `warmup` steps.
        warmup: steps of linear warm-up.
        schedule: ``cosine``, falling to 0, or ``step``, times `gamma` at each of `steps`.
        steps: iterations at which the rate falls, for ``schedule: step``.
        gamma: factor of each such fall.
        momentum: SGD's.
        weight_decay: on weights with two or more dimensions.
        clip_norm: largest norm of the gradient; 0 for no limit.
        ema_decay: of the averaged weights, which are the ones evaluated and exported; 0 to take
            the last weights instead.
        sync_batchnorm: take statistics of normalisation over all processes' images, not over each
            one's own.
        augment: change images at random: mirror every second one, and what the next four say.
        scale_jitter: smallest and largest factor of an image's size; ``[1, 1]`` keeps it.
        aspect_jitter: smallest and largest factor of width to height; ``[1, 1]`` keeps it.
        recolour: change colours, and blur and roughen some images.
        copy_paste: how often whole objects of another image are pasted in front, 0..1.
        precision: of the convolutions: ``fp32``; ``bf16``, twice as fast on CPUs and GPUs that
            have it and many times slower on CPUs that have not; ``fp16``, for older GPUs, with
            the loss scaled; ``auto``: bf16 where the device has it. A run keeps what was chosen.
        seed: of the initial weights, the order of the images and every random choice.
        evaluate_every: steps between evaluations on `val`.
        best_metric: validation metric by which ``best.safetensors`` is chosen; higher is better.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay.
        log_every: steps between lines of the log.
        device: ``cpu``, ``cuda``, or ``auto``: a GPU where there is one.
        processes: share every batch and average their gradients. Started here if greater than 1;
            ``torchrun`` starts its own number. On a busy CPU faster than as many threads, which
            wait for each other at every layer.
        threads: of the arithmetic of a process; 0 for its share of the cores.
        workers: processes that read images, of each process that trains.
        cache_mb: memory for images that were read, MiB, of each process that trains with its
            workers; 0.33 MiB an image at the default `input_hw`.
    """

    model: ModelSettings = field(default_factory=OrcnnLightSettings)
    dataset: str = "amodal_coco"
    data: str = ""
    val: str = ""
    out: str = ""
    weights: str = ""
    frozen: tuple[str, ...] = ()
    input_hw: tuple[int, int] = (288, 384)
    iterations: int = 6000
    batch_size: int = 16
    optimizer: str = "adamw"
    learning_rate: float = 1.5e-3
    warmup: int = 200
    schedule: str = "cosine"
    steps: tuple[int, ...] = ()
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.03
    clip_norm: float = 10.0
    ema_decay: float = 0.998
    sync_batchnorm: bool = False
    augment: bool = True
    scale_jitter: tuple[float, float] = Augmentation.scale_jitter
    aspect_jitter: tuple[float, float] = Augmentation.aspect_jitter
    recolour: bool = Augmentation.recolour
    copy_paste: float = Augmentation.copy_paste
    precision: str = "auto"
    seed: int = 0
    evaluate_every: int = 500
    best_metric: str = "coco.amodal_mask.AP"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 20
    device: str = "auto"
    processes: int = 1
    threads: int = 0
    workers: int = 1
    cache_mb: int = CACHE_MB

    def __post_init__(self) -> None:
        for key, minimum in MINIMUM.items():
            if not getattr(self, key) >= minimum:
                raise ConfigError(f"{key} must be at least {minimum}, but is {getattr(self, key)}")
        for key, valid in CHOICES.items():
            if getattr(self, key) not in valid:
                raise ConfigError(
                    f"{key} must be one of {', '.join(valid)}, but is '{getattr(self, key)}'"
                )
        if self.schedule == "step" and not self.steps:
            raise ConfigError("schedule=step needs steps=[ITERATION, ...]")
        if self.batch_size % self.processes:
            raise ConfigError(
                f"processes must divide batch_size {self.batch_size}, but is {self.processes}"
            )
        for key in ("scale_jitter", "aspect_jitter"):
            jitter = getattr(self, key)
            if len(jitter) != 2 or not 0 < jitter[0] <= jitter[1]:
                raise ConfigError(f"{key} must be [minimum, maximum] above 0, but is {jitter}")
        if not 0 <= self.copy_paste <= 1:
            raise ConfigError(f"copy_paste must be 0 to 1, but is {self.copy_paste}")
        if len(self.input_hw) != 2 or any(n < 32 or n % 32 for n in self.input_hw):
            raise ConfigError(
                f"input_hw must be [height, width], both multiples of 32, but is {self.input_hw}"
            )


DEFAULT_MODEL = "orcnn_light"

RESUMABLE = (
    *("val", "out", "iterations", "evaluate_every", "best_metric", "checkpoint_every"),
    *("keep_checkpoints", "log_every", "device", "threads", "workers", "cache_mb"),
)
"""Keys that may differ when a run is resumed; another value of any other needs a new run."""


def from_mapping(values: Mapping[str, Any], *, source: str) -> TrainConfig:
    """Build a configuration from loosely typed values, the inverse of `to_mapping`.

    Raises:
        ConfigError: an unknown key or a value of the wrong type; names `source`.
    """
    values = dict(values)
    model = _model_from(values.pop("model", DEFAULT_MODEL), source)
    return TrainConfig(model=model, **_typed(TrainConfig, values, source))


def to_mapping(config: TrainConfig) -> dict[str, Any]:
    """Return plain values, fit for JSON or YAML."""
    model = {"name": model_name(config), **dataclasses.asdict(config.model)}
    return {**dataclasses.asdict(config), "model": model}


def model_name(config: TrainConfig) -> str:
    """Return the name of the configuration's network in `training.models.MODELS`."""
    return next(name for name, kind in MODELS.items() if type(config.model) is kind)


def _model_from(value: Any, source: str) -> ModelSettings:
    values = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = values.pop("name", None)
    if name not in MODELS:
        raise ConfigError(f"{source}: model '{name}' is unknown; valid: {', '.join(MODELS)}")
    return MODELS[name](**_typed(MODELS[name], values, source, prefix="model."))


def _typed(kind: type, values: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    hints = get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    typed = {}
    for key, value in values.items():
        if key not in fields:
            valid = ", ".join(prefix + name for name in fields)
            near = difflib.get_close_matches(key, fields, 1)
            meant = f"did you mean '{prefix}{near[0]}'? " if near else ""
            raise ConfigError(f"{source}: unknown key '{prefix}{key}'; {meant}valid keys: {valid}")
        try:
            typed[key] = _convert(value, hints[key])
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(
                f"{source}: {prefix}{key} must be {_described(hints[key])}, but is {value!r}"
            ) from None
    return typed


def load(path: Path, overrides: Sequence[str]) -> TrainConfig:
    """Read a YAML file and apply ``key=value`` words over it.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, or a word that is no assignment.
    """
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines")
    config = from_mapping(values, source=str(path))
    if not overrides:
        return config
    for word in overrides:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"'{word}' is not of the form key=value")
        value = yaml.safe_load(text) if text else ""
        if key.startswith("model."):
            model = values.get("model", DEFAULT_MODEL)
            model = model if isinstance(model, dict) else {"name": model}
            values["model"] = {**model, key.removeprefix("model."): value}
        else:
            values[key] = value
    return from_mapping(values, source="command line")


def _convert(value: Any, hint: Any) -> Any:
    """Convert a loosely typed value to a field's type; TypeError or ValueError if it is none."""
    if get_origin(hint) is tuple:
        if isinstance(value, str):
            raise TypeError
        return tuple(_convert(item, get_args(hint)[0]) for item in value)
    if value is None or isinstance(value, bool) != (hint is bool):
        raise TypeError
    if hint is int and float(value) != int(value):
        raise ValueError
    return hint(value)


def _described(hint: Any) -> str:
    return (
        f"a list of {get_args(hint)[0].__name__}" if get_origin(hint) is tuple else hint.__name__
    )
