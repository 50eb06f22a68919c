"""Train a model: ``python -m training.train CONFIG.yaml data=DIR out=RUN [key=value ...]``.

`training.loop.config.TrainConfig` lists the keys. Running the same command again resumes the run;
on the CPU it goes on exactly as if it had not stopped. To start from other weights, for one's own
data or a larger input, give ``weights=RUN`` or ``weights=MODEL.onnx``. For several GPUs or
machines: ``torchrun --nproc_per_node=N -m training.train CONFIG.yaml ...``.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from amodal_perception.errors import AmodalError, ConfigError
from amodal_perception.storage import amodal_coco
from training import distributed, evaluate
from training.datasets import DATASETS
from training.loop import checkpoints, initial_weights, provenance
from training.loop.batch_pictures import save_batch
from training.loop.checkpoints import Learner
from training.loop.config import TrainConfig, load
from training.loop.optim import freeze, learning_rate, make_optimizer, update_average
from training.loop.run_log import RunLog
from training.loop.sample_stream import batches
from training.models import Network
from training.structures import Batch


def train(config: TrainConfig) -> None:
    """Run or resume a training run, as one of the processes that torchrun started, if it did.

    Raises:
        AmodalError: settings, data or checkpoint of no use, or a loss that is not finite.
    """
    if config.processes > 1 and not distributed.launched():
        raise ConfigError(f"processes={config.processes}: start them by torchrun, or by `main`")
    if config.dataset not in DATASETS:
        raise ConfigError(f"dataset '{config.dataset}' is unknown; valid: {', '.join(DATASETS)}")
    with distributed.joined(config.device) as device:
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = True
        config = replace(config, processes=distributed.count())
        if config.precision == "auto":
            config = replace(config, precision=precision_of(Path(config.out), device))
        _train(config, device)


def precision_of(run: Path, device: torch.device) -> str:
    """Return what a run was started with, or what is best on this device; say which."""
    precision = "bf16" if provenance.has_bf16(device) else "fp32"
    if distributed.rank() == 0:
        if (run / "config.json").exists():
            precision = checkpoints.read_config(run)[0].precision
        print(f"precision {precision} on this {device.type}", file=sys.stderr)
    return distributed.from_first(precision)


def _train(config: TrainConfig, device: torch.device) -> None:
    run, leads = Path(config.out), distributed.rank() == 0
    dataset = DATASETS[config.dataset](Path(config.data), config.input_hw, config.cache_mb)
    truth = amodal_coco.read(Path(config.val) / evaluate.ANNOTATIONS) if config.val else None
    if truth and leads:
        evaluate.check_figure(truth, config.best)
    checkpoint = distributed.from_first(
        checkpoints.start_run(config, dataset.class_names, device) if leads else None
    )
    prepared = {}
    if checkpoint is None:
        prepared = distributed.from_first(
            config.model.prepare(Path(config.data), run, config.seed, device) if leads else None
        )
    learner = make_learner(config, len(dataset.class_names), device, prepared)
    first = checkpoints.restore(checkpoint, learner) if checkpoint else 0
    network = distributed.share_gradients(LossTerms(learner.model))

    with RunLog(run, first=first, total=config.iterations, silent=not leads) as log:
        for iteration, batch in enumerate(log.following(batches(dataset, config, first)), first):
            given = (tensor for tensor in batch if tensor is not None)  # ids may be missing
            batch = Batch(*(tensor.to(device, non_blocking=True) for tensor in given))
            if iteration == 0 and leads:
                save_batch(run / "first_batch", batch)
            terms = step(network, learner, batch, config, iteration)
            done, last = iteration + 1, iteration + 1 == config.iterations
            if done % config.log_every == 0 or last:
                log.losses(done, terms)
            if truth and (done % config.evaluate_every == 0 or last):
                validate(learner.ema, truth, config, dataset.class_names, device, done, log)
            if leads and (done % config.checkpoint_every == 0 or last):
                checkpoints.save(run, done, learner, config.keep)


def step(
    network: nn.Module, learner: Learner, batch: Batch, config: TrainConfig, iteration: int
) -> dict[str, float]:
    """Do one optimiser step; return the terms of the loss, means over the processes.

    Raises:
        ConfigError: loss or gradient is not finite; the batch is saved and nothing is changed.
    """
    draw = iteration * distributed.count() + distributed.rank()
    torch.manual_seed(config.seed * 1_000_003 + draw)  # for what draws without asking, as dropout
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + draw)
    dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
    with torch.autocast(batch.images.device.type, dtype, enabled=config.precision != "fp32"):
        losses: dict[str, Tensor] = network(batch, generator)
    total = torch.stack(list(losses.values())).sum()
    means = distributed.mean_over_processes(torch.stack([total, *losses.values()]).float())
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
        update_average(learner.ema, learner.model, config, iteration)
    return terms


def validate(
    ema: nn.Module,
    truth: amodal_coco.AmodalCoco,
    config: TrainConfig,
    class_names: tuple[str, ...],
    device: torch.device,
    iteration: int,
    log: RunLog,
) -> None:
    """Measure the averaged weights on the validation data; keep them if they are the best."""
    distributed.copy_from_first(ema)
    found = evaluate.predict(evaluate.torch_runtime(ema, config, class_names, device), truth)
    if found is None:
        return
    predictions, overlays = found
    metrics = evaluate.figures(truth, predictions, config.best)
    log.evaluation(iteration, metrics, overlays)
    best = checkpoints.best_metrics(Path(config.out)).get(config.best, -math.inf)
    # While nothing is found, some figures have no value.
    better = metrics.get(config.best, -math.inf) > best
    log.say(f"{iteration}: {config.best} {metrics.get(config.best, 0):.4f}{' (best)' * better}")
    if better:
        checkpoints.save_best(Path(config.out), iteration, ema, metrics)


def make_learner(
    config: TrainConfig,
    num_classes: int,
    device: torch.device,
    prepared: Mapping[str, Tensor] = MappingProxyType({}),
) -> Learner:
    """Build the network, with the weights to start from, and what makes it learn.

    Args:
        config: the settings.
        num_classes: of the data.
        device: to learn on.
        prepared: tensors made from the training data, which replace those started from.
    """
    torch.manual_seed(config.seed)
    model = config.model.build(num_classes)
    if config.weights:
        initial_weights.start_from(model, Path(config.weights), made=prepared)
    model.load_state_dict(prepared, strict=False)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(model).eval()
    if config.sync_batchnorm:
        model = distributed.synchronise_batchnorm(model, device)
    freeze(model, config.frozen)
    return Learner(
        model=model,
        ema=ema,
        optimizer=make_optimizer(model, config),
        scaler=GradScaler(device.type, enabled=config.precision == "fp16"),
    )


class LossTerms(nn.Module):
    """A network's `losses` as the forward pass, which is what gradients are shared through."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        return self.model.losses(batch, generator)


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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("config", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over it")
    options = parser.parse_args(words)
    try:
        config = load(options.config, options.overrides)
        for key in ("data", "out"):
            if not getattr(config, key):
                raise ConfigError(f"{key}= is missing: give {key}=FOLDER")
        if config.processes > 1 and not distributed.launched():
            return distributed.launch(config.processes, "training.train", words)
        train(config)
    except AmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
