"""Whole batches for ``data.augment: batch``: images are fetched together, and so are their views.

A batch is a function of the seed, the process's rank, the epoch and the batch's number, and of
nothing else: not of the worker that makes it, nor of what was drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from mixbt_plugin.data.datasets import WithIndex
from mixbt_plugin.data.memory import ArrayImages
from mixbt_plugin.data.reading import ReadableImages
from mixbt_plugin.devices import send
from mixbt_plugin.settings import ConfigError
from mixbt_plugin.views import BatchAugmentation, ViewParameters

LARGEST_TOGETHER = 128
"""Height and width up to which images in memory are cropped by matrix products, all together."""
VIEWS = 1
"""Tells this stream of random numbers from the methods' own, which have the same seeds."""


class BatchKey(NamedTuple):
    """Which batch: the epoch, its number in it, and the places of its images in the data set."""

    epoch: int
    batch: int
    positions: Sequence[int]


class DrawnBatch(NamedTuple):
    """A batch whose views are drawn but not yet computed.

    Attributes:
        indexes: int64 (n,), of the images.
        images: what `BatchAugmentation` takes.
        drawn: the views' parameters.
        targets: int64 (n,), the classes.
    """

    indexes: Tensor
    images: Tensor | list[Tensor]
    drawn: list[ViewParameters]
    targets: Tensor

    def computed(self, augmentation: BatchAugmentation, device: torch.device | None) -> list[Any]:
        """The batch as methods take it, (indexes, views, classes), on a device."""
        images: Any = (
            send(self.images, device)
            if isinstance(self.images, Tensor)
            else [send(crops, device) for crops in self.images]
        )
        return [
            send(self.indexes, device),
            augmentation(images, self.drawn),
            send(self.targets, device),
        ]


class BatchViews(Dataset[Any]):
    """A data set of batches, indexed by `BatchKey`.

    Args:
        images: of `mixbt_plugin.data.pretrain_dataset`, whose transform is `as_tensor`.
        augmentation: makes the views.
        seed: of the config.
        rank: of this process.
        compute: give (indexes, views, classes), and not a `DrawnBatch`.
    """

    def __init__(
        self,
        images: Any,
        augmentation: BatchAugmentation,
        seed: int,
        rank: int = 0,
        *,
        compute: bool = True,
    ) -> None:
        self.dataset = images
        self.augmentation = augmentation
        self.seed = seed
        self.rank = rank
        self.compute = compute
        self.array, self.places = _array_and_places(images)

    def __getitem__(self, key: BatchKey) -> Any:
        generator = np.random.default_rng([self.seed, self.rank, key.epoch, key.batch, VIEWS])
        images: Tensor | list[Tensor]
        if self.array is not None:
            places = torch.as_tensor(key.positions)
            indexes = places if self.places is None else self.places[places]
            targets = self.array.targets[indexes]
            images = self.array.images[indexes].permute(0, 3, 1, 2).contiguous()
            drawn = self.augmentation.draw([images.shape[-2:]] * len(images), generator)
        else:
            items = [self.dataset[position] for position in key.positions]
            indexes = torch.tensor([item[0] for item in items])
            targets = torch.tensor([item[2] for item in items])
            whole = [item[1] for item in items]
            drawn = self.augmentation.draw([image.shape[-2:] for image in whole], generator)
            try:
                images = self.augmentation.crop(whole, drawn)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        batch = DrawnBatch(indexes, images, drawn, targets)
        return batch.computed(self.augmentation, None) if self.compute else batch

    def __len__(self) -> int:
        return len(self.dataset)


def as_tensor(image: Any) -> Tensor:
    """A PIL image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _array_and_places(images: Any) -> tuple[ArrayImages | None, Tensor | None]:
    """The array behind a data set, if it is small images in memory, and a part's places in it."""
    places: Tensor | None = None
    while isinstance(images, (ReadableImages, Subset, WithIndex)):
        if isinstance(images, Subset):
            chosen = torch.as_tensor(images.indices)
            places = chosen if places is None else chosen[places]
            images = images.dataset
        else:
            images = images.images
    if isinstance(images, ArrayImages) and max(images.images.shape[1:3]) <= LARGEST_TOGETHER:
        return images, places
    return None, None
