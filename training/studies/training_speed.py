"""Training speed: how fast is a training step compared with torchvision's Mask R-CNN?

    python -m training.studies.training_speed CONFIG.yaml data=DIR

Both train on the same batches with the same number of threads, each in a process of its own, one
step of each in turn, so that other load on the machine affects both alike. The peer
is torchvision's reference Mask R-CNN (ResNet-50, FPN) from scratch, with 1000 proposals as in the
papers: the work of this project's ``model=mask_rcnn``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from training.datasets import DATASETS
from training.loop.config import TrainConfig, load, model_name
from training.loop.learner import make_learner
from training.loop.sample_stream import batches
from training.loop.step import LossTerms, step
from training.structures import Batch

WARMUP_STEPS = 2
PROPOSALS = 1000
Step = Callable[[Batch, int], None]


def ours(config: TrainConfig, class_names: Sequence[str]) -> Step:
    """Build this project's training step: with clipping and averaged weights."""
    learner = make_learner(config, class_names, torch.device("cpu"))
    network = LossTerms(learner.model)

    def run(batch: Batch, iteration: int) -> None:
        step(network, learner, batch, config, iteration)

    return run


def torchvision(config: TrainConfig, class_names: Sequence[str]) -> Step:
    """Build torchvision's training step, as its reference script does it."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    height, width = config.input_hw
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=len(class_names) + 1,
        min_size=min(height, width),
        max_size=max(height, width),
        rpn_pre_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_train=PROPOSALS,
    ).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, momentum=0.9, weight_decay=1e-4
    )

    def run(batch: Batch, iteration: int) -> None:
        images = list(batch.images.permute(0, 3, 1, 2).float() / 255)
        targets = [
            {
                "boxes": batch.boxes_xyxy[b][valid],
                "labels": batch.labels[b][valid] + 1,
                "masks": batch.visible[b][valid],
            }
            for b, valid in enumerate(batch.valid)
        ]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def _work(build: Callable, config: TrainConfig, pipe: Connection) -> None:
    """Do a step at each request; send wall and CPU seconds, in the end the peak memory."""
    torch.set_num_threads(config.threads)
    dataset = DATASETS[config.dataset](Path(config.data), config.input_hw, config.cache_mb)
    run = build(config, dataset.class_names)
    for iteration, batch in enumerate(batches(dataset, config, 0)):
        pipe.recv()
        wall, cpu = time.perf_counter(), time.process_time()
        run(batch, iteration)
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def time_steps(config: TrainConfig) -> dict[str, tuple[list[tuple[float, float]], float]]:
    """Time both: wall and CPU seconds of every step, and the peak memory in MiB, by name."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, build in (("torchvision", torchvision), (model_name(config), ours)):
        pipes[name], other = context.Pipe()
        processes.append(context.Process(target=_work, args=(build, config, other), daemon=True))
        processes[-1].start()
        other.close()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in pipes}
    for _ in tqdm(range(config.iterations), unit="step of both"):
        for name, pipe in pipes.items():
            pipe.send(None)
            seconds[name].append(pipe.recv())
    found = {name: (seconds[name][WARMUP_STEPS:], pipe.recv()) for name, pipe in pipes.items()}
    for process in processes:
        process.join()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.training_speed", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("config", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings over it")
    options = parser.parse_args(arguments)
    return run_main("training.studies.training_speed", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    config = load(options.config, options.overrides)
    if not config.data or config.iterations <= WARMUP_STEPS:
        raise ConfigError(f"give data=FOLDER and iterations above {WARMUP_STEPS}")
    config = replace(config, device="cpu", threads=config.threads or 1, workers=0, processes=1)
    if config.precision == "auto":
        config = replace(config, precision="fp32")
    found = time_steps(config)
    print(f"{config.batch_size} images of {config.input_hw} a step, {config.threads} threads")
    for name, (times, peak_mib) in found.items():
        wall, cpu = zip(*times)
        print(
            f"{name:16} {median(wall):7.3f} s a step ({min(wall):.3f} to {max(wall):.3f}), "
            f"{median(cpu):7.3f} s of CPU time, peak memory {peak_mib:,.0f} MiB; "
            f"medians of {len(times)}"
        )


if __name__ == "__main__":
    sys.exit(main())
