"""Train a model: ``python -m training.train CONFIG.yaml data=DIR out=RUN [key=value ...]``.

`training.loop.config.TrainConfig` lists the keys. Running the same command again resumes the run;
on the CPU it goes on exactly as if it had not stopped. To start from other weights, for one's own
data or a larger input, give ``weights=RUN`` or ``weights=MODEL.onnx``; with ``iterations=0`` they
become a run as they are. For several GPUs or
machines: ``torchrun --nproc_per_node=N -m training.train CONFIG.yaml ...``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError, DatasetError
from amodal_perception.evaluation.figure_names import figure_names
from amodal_perception.storage import amodal_coco
from training import distributed, evaluate
from training.datasets import DATASETS
from training.loop import checkpoints
from training.loop.batch_pictures import save_batch
from training.loop.config import TrainConfig, load
from training.loop.learner import make_learner
from training.loop.mixed_precision import precision_of
from training.loop.run_log import RunLog
from training.loop.sample_stream import batches
from training.loop.step import LossTerms, step


def train(config: TrainConfig) -> None:
    """Run or resume a training run, as one of the processes that torchrun started, if it did.

    Raises:
        AmodalError: settings, data or checkpoint of no use, or a loss that is not finite.
    """
    if config.processes > 1 and not distributed.launched():
        raise ConfigError(f"processes={config.processes}: start them by torchrun, or by `main`")
    with distributed.process_group(config.device) as device:
        if config.sync_batchnorm and device.type == "cpu":
            raise ConfigError(
                "sync_batchnorm=true needs GPUs: PyTorch synchronises batch normalisation on "
                "those alone; leave it out on a CPU"
            )
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.benchmark = True
        config = replace(config, processes=distributed.world_size())
        if config.precision == "auto":
            config = replace(config, precision=precision_of(Path(config.out), device))
        _train(config, device)


def _train(config: TrainConfig, device: torch.device) -> None:
    run, leads = Path(config.out), distributed.rank() == 0
    dataset = DATASETS[config.dataset](Path(config.data), config.input_hw, config.cache_mb)
    truth = amodal_coco.read(Path(config.val)) if config.val else None
    if truth and leads:
        check_best_metric(config.best_metric, truth)
    checkpoint = distributed.broadcast(
        checkpoints.start_run(config, dataset.class_names, device) if leads else None
    )
    prepared = {}
    if checkpoint is None:
        prepared = distributed.broadcast(
            config.model.prepare(Path(config.data), run, config.seed, device) if leads else None
        )
    learner = make_learner(config, dataset.class_names, device, prepared)
    first = checkpoints.restore(checkpoint, learner) if checkpoint else 0
    if leads and config.iterations == 0:
        checkpoints.save(run, 0, learner, config.keep_checkpoints)
    network = distributed.wrap_ddp(LossTerms(learner.model))

    with RunLog(run, first=first, total=config.iterations, silent=not leads) as log:
        for iteration, batch in enumerate(log.following(batches(dataset, config, first)), first):
            batch = batch.to(device)
            if iteration == 0 and leads:
                save_batch(run / "first_batch", batch)
            terms = step(network, learner, batch, config, iteration)
            done, last = iteration + 1, iteration + 1 == config.iterations
            if done % config.log_every == 0 or last:
                log.losses(done, terms)
            if truth and (done % config.evaluate_every == 0 or last):
                distributed.broadcast_weights(learner.ema)
                found = evaluate.validate(learner.ema, truth, config, dataset.class_names, device)
                if found is not None:
                    metrics, overlays = found
                    best = config.best_metric
                    kept = checkpoints.keep_best(run, done, learner.ema, metrics, best)
                    log.evaluation(done, metrics, overlays, best_metric=best, kept=kept)
            if leads and (done % config.checkpoint_every == 0 or last):
                checkpoints.save(run, done, learner, config.keep_checkpoints)


def check_best_metric(name: str, truth: amodal_coco.AmodalCoco) -> None:
    """Check the name of the metric that chooses the best weights, before training.

    Raises:
        ConfigError: there is no such protocol or figure, or this truth does not allow it.
        DatasetError: a truth without objects.
    """
    names, obstacle = figure_names(truth, name.split(".")[0])
    if obstacle:
        raise ConfigError(f"best_metric={name} cannot be measured: {obstacle}")
    if name not in names:
        raise ConfigError(f"best_metric={name} is unknown; valid: {', '.join(names)}")
    if all(row.get("iscrowd") for row in truth.annotations.values()):
        raise DatasetError(f"{truth.path}: holds no object to measure against")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("config", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over it")
    options = parser.parse_args(words)
    goes_on = "the same command goes on from the newest checkpoint"
    return run_main("training.train", lambda: _run(options, words), afterwards=goes_on)


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    config = load(options.config, options.overrides)
    for key in ("data", "out"):
        if not getattr(config, key):
            raise ConfigError(f"{key}= is missing: give {key}=FOLDER")
    if config.processes > 1 and not distributed.launched():
        return distributed.launch(config.processes, "training.train", words)
    train(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
