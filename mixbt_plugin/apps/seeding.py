"""What a training draws, as a function of the config's seed, the epoch and the process's rank.

Order and augmentation of an epoch depend on nothing that came before it and on no number of
workers, so that a run which is resumed sees what the uninterrupted one would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import Dataset, Sampler

from mixbt_plugin.data import BatchKey

EpochAndIndex = tuple[int, int]


class EpochSampler(Sampler[EpochAndIndex]):
    """A process's share of an epoch's permutation of the images, as (epoch, index).

    All processes get equally many images; up to ``world_size - 1`` are left out of an epoch.

    Args:
        size: number of images.
        seed: with the epoch, what the permutation is drawn from.
        epoch: tells the epoch, when the iteration starts.
        rank: of this process.
        world_size: number of processes.
        done: tells, when the iteration starts, how many of the process's images an interrupted
            epoch has had already; they are left out.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.size = size
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size
        self.done = done

    def __iter__(self) -> Iterator[EpochAndIndex]:
        """The pairs, in order."""
        epoch = self.epoch()
        permutation = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        share = permutation[self.rank :: self.world_size][: len(self)]
        return ((epoch, int(index)) for index in share[self.done() :])

    def __len__(self) -> int:
        return self.size // self.world_size


class EpochBatchSampler(Sampler[BatchKey]):
    """The images of an `EpochSampler` in batches, an incomplete last one dropped.

    Args:
        images: their order.
        batch_size: number of images of a batch.
    """

    def __init__(self, images: EpochSampler, batch_size: int) -> None:
        self.images = images
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[BatchKey]:
        """The batches, in order."""
        order = iter(self.images)
        for batch in range(self.images.done() // self.batch_size, len(self)):
            pairs = list(islice(order, self.batch_size))
            yield BatchKey(pairs[0][0], batch, [index for _, index in pairs])

    def __len__(self) -> int:
        return len(self.images) // self.batch_size


class SeededDataset(Dataset[Any]):
    """Seeds the augmentation of each image with (seed, epoch, index).

    The random states of PyTorch and of ``random`` are as before afterwards.

    Args:
        dataset: indexed by a number.
        seed: of the run.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, item: EpochAndIndex) -> Any:
        epoch, index = item
        drawn = np.random.SeedSequence([self.seed, epoch, index]).generate_state(2, np.uint64)
        torch_state, python_state = torch.default_generator.get_state(), random.getstate()
        torch.default_generator.manual_seed(int(drawn[0]) >> 1)
        random.seed(int(drawn[1]))
        try:
            return self.dataset[index]
        finally:
            torch.default_generator.set_state(torch_state)
            random.setstate(python_state)

    def __len__(self) -> int:
        return len(self.dataset)


class SeedEachBatch(Callback):
    """Seeds what the network itself may draw, such as dropped paths, before each batch.

    Args:
        seed: with rank, epoch and batch, what the global random states are set from.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Seeds."""
        key = [self.seed, trainer.global_rank, trainer.current_epoch, batch_idx]
        drawn = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)
