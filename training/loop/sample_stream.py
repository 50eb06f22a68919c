"""Shuffled, augmented sample stream (sampler and DataLoader): a function of the seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from amodal_perception.processes import end_with_parent
from training import distributed
from training.datasets.augment import Augmentation, augment
from training.datasets.sample import Sample, SampleDataset, collate
from training.loop.config import TrainConfig
from training.structures import Batch


class SampleStream(Dataset):
    """An endless, shuffled stream of samples: number n depends on the seed and n alone.

    Every epoch is a new order of the images. As nothing else is remembered, a resumed run sees
    exactly what it would have seen.
    """

    def __init__(self, dataset: SampleDataset, config: TrainConfig) -> None:
        self.dataset = dataset
        self.config = config
        self._augmentation = Augmentation(
            config.scale_jitter, config.aspect_jitter, config.recolour, config.copy_paste
        )
        self._epoch = -1
        self._order: NDArray[np.int64] = np.zeros(0, np.int64)  # remembered: it takes a while

    def __getitem__(self, number: int) -> Sample:
        """Return sample `number`, augmented if the configuration says so."""
        seed, count = self.config.seed, len(self.dataset)
        epoch, place = divmod(number, count)
        if epoch != self._epoch:
            self._order = np.random.default_rng((seed, 0, epoch)).permutation(count)
            self._epoch = epoch
        sample = self.dataset[int(self._order[place])]
        if not self.config.augment:
            return sample
        rng = np.random.default_rng((seed, 1, number))
        other = None
        if self.config.copy_paste > 0 and rng.random() < self.config.copy_paste:
            other = self.dataset[int(rng.integers(count))]
        return augment(sample, rng, self._augmentation, other)


def batches(dataset: SampleDataset, config: TrainConfig, first: int) -> Iterator[Batch]:
    """Yield this process's share of the batches of iterations `first` to the last."""
    # Before the workers are forked: they would wait for threads that only this process has.
    cv2.setNumThreads(1)
    share = config.batch_size // distributed.world_size()
    numbers = [
        iteration * config.batch_size + distributed.rank() * share + place
        for iteration in range(first, config.iterations)
        for place in range(share)
    ]
    return iter(
        DataLoader(
            SampleStream(dataset, config),
            batch_size=share,
            sampler=numbers,
            collate_fn=collate,
            num_workers=config.workers,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
        )
    )


def _start_worker(number: int) -> None:
    end_with_parent()
