"""Training batches that are a function of the config's seed, the epoch and the process's rank.

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
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset, Sampler

from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.resuming import Resumed
from mixbt_plugin.data import BatchKey, BatchViews, count_replaced, name_the_damaged_file
from mixbt_plugin.views import BatchAugmentation

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
    """

    def __init__(
        self, size: int, seed: int, epoch: Callable[[], int], rank: int = 0, world_size: int = 1
    ) -> None:
        self.size = size
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[EpochAndIndex]:
        """The pairs, in order."""
        epoch = self.epoch()
        permutation = np.random.default_rng([self.seed, epoch]).permutation(self.size)
        share = permutation[self.rank :: self.world_size][: len(self)]
        return ((epoch, int(index)) for index in share)

    def __len__(self) -> int:
        return self.size // self.world_size


class SeededDataset(Dataset[Any]):
    """Seeds the augmentation of each image with (seed, epoch, index).

    The random states of PyTorch and of ``random`` are as before afterwards.

    Args:
        dataset: indexed by a number.
        seed: see above.
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
        for batch in range(len(self)):
            pairs = list(islice(order, self.batch_size))
            yield BatchKey(pairs[0][0], batch, [index for _, index in pairs])

    def __len__(self) -> int:
        return len(self.images) // self.batch_size


class ViewsOnDevice:
    """Batches of which the views are computed on an accelerator, as its process asks for them.

    Args:
        drawn: gives `DrawnBatch`.
        augmentation: computes the views.
        device: where.
    """

    def __init__(
        self, drawn: DataLoader[Any], augmentation: BatchAugmentation, device: torch.device
    ) -> None:
        self.drawn = drawn
        self.dataset = drawn.dataset
        self.augmentation = augmentation
        self.device = device

    def __iter__(self) -> Iterator[list[Any]]:
        """Batches (indexes, views, classes)."""
        for batch in self.drawn:
            yield batch.computed(self.augmentation, self.device)

    def __len__(self) -> int:
        return len(self.drawn)


class SeedEachEpoch(Callback):
    """Seeds what the network itself may draw, such as dropped paths, at each epoch's start.

    Args:
        seed: with rank and epoch, what the global random states are set from.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Seeds before the first batch; a resumed epoch has no other hook in all versions."""
        if batch_idx == 0:
            key = [self.seed, trainer.global_rank, trainer.current_epoch]
            drawn = int(np.random.SeedSequence(key).generate_state(1)[0])
            random.seed(drawn)
            np.random.seed(drawn)
            torch.manual_seed(drawn)


class LogReplacedImages(Callback):
    """Logs how many images of an epoch could not be read and were replaced by others.

    As ``train_replaced_images``, on all processes together, and ``val_replaced_images``; where
    ``data.unreadable`` is ``skip``.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs those of the training images."""
        count = float(count_replaced(trainer.train_dataloader))
        pl_module.log("train_replaced_images", count, sync_dist=True, reduce_fx="sum")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs those of the validation images, which every process reads."""
        pl_module.log("val_replaced_images", float(count_replaced(trainer.val_dataloaders)))


def train_loader(
    dataset: Any,
    cfg: DictConfig,
    trainer: Trainer,
    resumed: Resumed | None = None,
    augmentation: BatchAugmentation | None = None,
) -> DataLoader[Any] | ViewsOnDevice:
    """Shuffled batches of ``optimizer.batch_size``, an incomplete last one dropped.

    Args:
        dataset: training images.
        cfg: parsed; with ``seed``, ``optimizer.batch_size`` and ``data.num_workers``.
        trainer: tells the epoch, the rank and the number of processes.
        resumed: the checkpoint that the run goes on from.
        augmentation: makes the views of each batch, on the trainer's accelerator where there is
            one, else in the loader's processes; None where the data set makes them itself.

    Raises:
        ValueError: not one batch can be filled.
    """
    progress: Any = trainer.fit_loop.epoch_progress
    first_epoch = resumed.first_epoch if resumed else 0
    sampler = EpochSampler(
        len(dataset),
        cfg.seed,
        # Lightning asks for the first batches before it has restored the epoch of a checkpoint.
        epoch=lambda: max(first_epoch, progress.current.processed),
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    if len(sampler) < cfg.optimizer.batch_size:
        processes = f" on {trainer.world_size} processes" if trainer.world_size > 1 else ""
        raise ValueError(
            f"optimizer.batch_size={cfg.optimizer.batch_size}{processes}: the training set has "
            f"only {len(dataset)} images, and incomplete batches are dropped."
        )
    if augmentation is None:
        return _loader(SeededDataset(dataset, cfg.seed), cfg, sampler=sampler, drop_last=True)
    device = trainer.strategy.root_device
    there = on_accelerator(device)
    batches = BatchViews(dataset, augmentation, cfg.seed, trainer.global_rank, compute=not there)
    loader = _loader(
        batches,
        cfg,
        sampler=EpochBatchSampler(sampler, cfg.optimizer.batch_size),
        batch_size=None,
        collate_fn=_as_it_is,
    )
    return ViewsOnDevice(loader, augmentation, device) if there else loader


def on_accelerator(device: torch.device) -> bool:
    """Whether views are computed on a device, rather than in the loader's processes."""
    return device.type != "cpu"


def val_loader(dataset: Any, cfg: DictConfig) -> DataLoader[Any]:
    """All images in order, on every process."""
    return _loader(dataset, cfg, shuffle=False, drop_last=False)


def views_loader(dataset: Any, cfg: DictConfig, batch_size: int) -> DataLoader[Any]:
    """All images in order, augmented with seeds as those of the first epoch of training."""
    order = [(0, index) for index in range(len(dataset))]
    return _loader(SeededDataset(dataset, cfg.seed), cfg, sampler=order, batch_size=batch_size)


def fit(trainer: Trainer, model: Any, train: Any, validation: Any, resumed: Resumed | None) -> None:
    """Trains.

    Args:
        trainer: what trains.
        model: what is trained.
        train: batches, or a data module of solo-learn's, whose own validation images are not used.
        validation: batches, or None.
        resumed: the checkpoint to go on from.

    Raises:
        UnreadableImageError: an image file cannot be decoded; names it.
    """
    path = None
    if resumed is not None:
        path, trainer.strategy.checkpoint_io = resumed.path, resumed
    if not isinstance(train, LightningDataModule):
        trainer.fit(model, train, validation, ckpt_path=path)
        return
    if resumed is not None:
        say(
            "resume",
            "DALI begins anew with its order of images and its augmentations: this run will not "
            "be, bit for bit, the one that was not interrupted",
        )
    module: Any = train
    module.val_dataloader = lambda: validation or []
    try:
        trainer.fit(model, datamodule=module, ckpt_path=path)
    except RuntimeError as error:
        if "dali.ops.decoders" in str(error):
            raise name_the_damaged_file(module, error) from error
        raise


def _as_it_is(batch: Any) -> Any:
    return batch


def _loader(dataset: Any, cfg: DictConfig, **kwargs: Any) -> DataLoader[Any]:
    workers = cfg.data.get("num_workers", 4)
    kwargs.setdefault("batch_size", cfg.optimizer.batch_size)
    return DataLoader(
        dataset,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        **kwargs,
    )
