"""The order in which training sees its images: a function of the seed and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from training import distributed
from training.batch import Batch
from training.config import TrainConfig
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


def batches(dataset: SampleDataset, config: TrainConfig, first: int) -> Iterator[Batch]:
    """Yield this process's share of the batches of iterations `first` to the last."""
    share = config.batch_size // distributed.count()
    numbers = [
        iteration * config.batch_size + distributed.rank() * share + place
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
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )
    )


def _start_worker(number: int) -> None:
    import cv2

    distributed.end_with_parent()
    cv2.setNumThreads(1)
