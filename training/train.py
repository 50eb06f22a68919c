"""Train a model: ``python -m training.train CONFIG.yaml data=DIR out=RUN [key=value ...]``.

`training.config.TrainConfig` lists the keys. Running the same command again resumes the run; on
the CPU it goes on exactly as if it had not stopped. To start from another run's weights, for one's
own data or a larger input, give ``weights=RUN``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from amodal_perception.errors import AmodalError, ConfigError
from training import checkpoints
from training.batch import Batch
from training.config import TrainConfig, load
from training.datasets import DATASETS
from training.datasets.augment import augment
from training.datasets.sample import Sample, SampleDataset, collate


class TrainingStream(Dataset):
    """An endless, numbered stream of samples: number n depends on the seed and n alone.

    Every epoch is a new order of the images. As nothing else is remembered, a resumed run sees
    exactly what it would have seen.
    """

    def __init__(self, dataset: SampleDataset, config: TrainConfig) -> None:
        self.dataset = dataset
        self.config = config

    def __getitem__(self, number: int) -> Sample:
        """Return sample `number`, augmented if the configuration says so."""
        seed = self.config.seed
        epoch, place = divmod(number, len(self.dataset))
        order = np.random.default_rng((seed, 0, epoch)).permutation(len(self.dataset))
        sample = self.dataset[int(order[place])]
        if self.config.augment:
            sample = augment(sample, np.random.default_rng((seed, 1, number)))
        return sample


def batches(dataset: SampleDataset, config: TrainConfig, first: int, rank: int) -> Iterator[Batch]:
    """Yield one process's share of the batches of iterations `first` to the last."""
    share = config.batch_size // config.processes
    numbers = [
        iteration * config.batch_size + rank * share + place
        for iteration in range(first, config.iterations)
        for place in range(share)
    ]
    return iter(
        DataLoader(
            TrainingStream(dataset, config),
            batch_size=share,
            sampler=numbers,
            collate_fn=collate,
            num_workers=config.workers,
            worker_init_fn=_single_thread,
        )
    )


def _single_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)


def learning_rate(config: TrainConfig, iteration: int) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to 0."""
    if iteration < config.warmup:
        return config.learning_rate * (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW; biases and normalisation do not decay."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def take_matching(model: nn.Module, weights: Path) -> None:
    """Start from another run's averaged weights, as far as names and shapes agree; say how far.

    Raises:
        ConfigError: nothing agrees.
    """
    own = model.state_dict()
    taken = {
        name: value
        for name, value in checkpoints.averaged_weights(weights).items()
        if name in own and own[name].shape == value.shape
    }
    if not taken:
        raise ConfigError(f"weights={weights}: is another kind of network; no tensor fits")
    model.load_state_dict(taken, strict=False)
    print(f"{len(taken)} of {len(own)} tensors taken from {weights}", file=sys.stderr)


@torch.no_grad()
def update_average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics a step towards the model's."""
    for average, value in zip(ema.state_dict().values(), model.state_dict().values()):
        if average.dtype.is_floating_point:
            average.lerp_(value, 1 - decay)
        else:
            average.copy_(value)


def average_gradients(model: nn.Module) -> None:
    """Replace every gradient by its mean over the processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts):
        gradient.copy_(part.view_as(gradient))


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainConfig,
    iteration: int,
    rank: int,
) -> dict[str, float]:
    """Do one optimiser step and return the terms of the loss of this process's share.

    Raises:
        ConfigError: the loss is not finite.
    """
    draw = iteration * config.processes + rank
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + draw)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        losses: dict[str, Tensor] = model.losses(batch, generator)
    total = torch.stack(list(losses.values())).sum()
    terms = {"loss": total.item(), **{name: value.item() for name, value in losses.items()}}
    if not math.isfinite(terms["loss"]):
        raise ConfigError(
            f"iteration {iteration}: the loss is not finite ({terms}); lower learning_rate "
            f"(now {config.learning_rate}) and resume from the last checkpoint"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, iteration)
    optimizer.zero_grad()
    total.backward()
    if config.processes > 1:
        average_gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return terms


def train(config: TrainConfig) -> None:
    """Run or resume a training run, in as many processes as the configuration says."""
    if config.dataset not in DATASETS:
        raise ConfigError(f"dataset '{config.dataset}' is unknown; valid: {', '.join(DATASETS)}")
    dataset = DATASETS[config.dataset](Path(config.data), config.input_hw)
    checkpoint = checkpoints.start_run(config, dataset.class_names)
    if config.processes == 1:
        train_share(0, config, dataset, checkpoint)
        return
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(
            _join, args=(config, dataset, checkpoint, folder), nprocs=config.processes
        )


def _join(
    rank: int, config: TrainConfig, dataset: SampleDataset, checkpoint: Path | None, folder: str
) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=config.processes
    )
    train_share(rank, config, dataset, checkpoint)
    dist.destroy_process_group()


def train_share(
    rank: int, config: TrainConfig, dataset: SampleDataset, checkpoint: Path | None
) -> None:
    """Do the work of one process; the first one also writes log and checkpoints."""
    if config.threads:
        torch.set_num_threads(config.threads)
    run = Path(config.out)
    torch.manual_seed(config.seed)
    model = config.model.build(len(dataset.class_names))
    if config.weights:
        take_matching(model, Path(config.weights))
    model.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(model)
    optimizer = make_optimizer(model, config)
    first = 0
    if checkpoint:
        first = checkpoints.restore(checkpoint, model=model, ema=ema, optimizer=optimizer)
    progress = tqdm(
        batches(dataset, config, first, rank),
        initial=first,
        total=config.iterations,
        desc=run.name,
        unit="it",
        mininterval=2,
        disable=rank > 0,
    )
    if rank > 0:
        for iteration, batch in enumerate(progress, first):
            step(model, optimizer, batch, config, iteration, rank)
        return
    checkpoints.cut_log(run, first)
    with open(run / "log.jsonl", "a") as log:
        for iteration, batch in enumerate(progress, first):
            terms = step(model, optimizer, batch, config, iteration, rank)
            # Early weights are far from good: average over a window that grows with the run.
            decay = min(config.ema_decay, (1 + iteration) / (10 + iteration))
            update_average(ema, model, decay)
            done = iteration + 1
            if done % config.log_every == 0 or done == config.iterations:
                progress.set_postfix({name: f"{value:.3f}" for name, value in terms.items()})
                record = {"iteration": done, "time_s": round(time.time(), 1), **terms}
                log.write(json.dumps(record) + "\n")
                log.flush()
            if done % config.checkpoint_every == 0 or done == config.iterations:
                checkpoints.save(run, iteration=done, model=model, ema=ema, optimizer=optimizer)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("config", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over it")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config, options.overrides)
        for key in ("data", "out"):
            if not getattr(config, key):
                raise ConfigError(f"{key}= is missing: give {key}=FOLDER")
        train(config)
    except AmodalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except multiprocessing.ProcessRaisedException as error:
        print(f"error: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
