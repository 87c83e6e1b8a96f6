"""Batches of training and validation, by PyTorch's ``DataLoader``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig
from torch.utils.data import DataLoader, default_collate

from mixbt_plugin.apps.restoring import Resumed
from mixbt_plugin.apps.seeding import EpochBatchSampler, EpochSampler, SeededDataset
from mixbt_plugin.data import BatchViews, require_a_batch
from mixbt_plugin.settings import ConfigError
from mixbt_plugin.views import BatchAugmentation


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
    first_epoch, first_batch = (resumed.first_epoch, resumed.first_batch) if resumed else (0, 0)

    def epoch() -> int:
        # Lightning asks for the first batches before it has restored the epoch of a checkpoint.
        return max(first_epoch, progress.current.processed)

    def done() -> int:
        return first_batch * cfg.optimizer.batch_size if epoch() == first_epoch else 0

    sampler = EpochSampler(
        len(dataset), cfg.seed, epoch, trainer.global_rank, trainer.world_size, done
    )
    require_a_batch(cfg, len(dataset), trainer.world_size)
    if augmentation is None:
        seeded = SeededDataset(dataset, cfg.seed)
        return _loader(seeded, cfg, sampler=sampler, drop_last=True, collate_fn=_of_one_shape)
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


def val_loader(dataset: Any, cfg: DictConfig) -> DataLoader[Any]:
    """All images in order, on every process."""
    return _loader(dataset, cfg, shuffle=False, drop_last=False)


def views_loader(dataset: Any, cfg: DictConfig, batch_size: int) -> DataLoader[Any]:
    """All images in order, augmented with seeds as those of the first epoch of training."""
    order = [(0, index) for index in range(len(dataset))]
    return _loader(SeededDataset(dataset, cfg.seed), cfg, sampler=order, batch_size=batch_size)


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


def on_accelerator(device: torch.device) -> bool:
    """Whether views are computed on a device, rather than in the loader's processes."""
    return device.type != "cpu"


def _of_one_shape(batch: list[Any]) -> Any:
    try:
        return default_collate(batch)
    except RuntimeError as error:
        if "equal size" not in str(error):
            raise
        raise ConfigError(
            "augmentations: with rrc.enabled=False and one number as crop_size images of different "
            f"shapes become views of different shapes; expected [height, width]. ({error})"
        ) from error


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
