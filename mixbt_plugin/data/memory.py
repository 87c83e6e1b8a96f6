"""Images that are kept in memory, decoded, in one array that all loader processes share."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mixbt_plugin.data.sources import LabelledImages
from mixbt_plugin.settings import ConfigError


class ArrayImages(Dataset[Any]):
    """Images held in memory, as (image, class).

    The array is a tensor, without a Python object for any image: processes that are forked read
    their parent's memory, and for processes that are spawned PyTorch moves it to shared memory.

    Args:
        data: images and classes.
        transform: of a PIL image.

    Attributes:
        images: uint8 (N, H, W, 3).
        targets: int64 (N,).
    """

    def __init__(self, data: LabelledImages, transform: Callable[[Any], Any]) -> None:
        self.images = torch.from_numpy(data.images)
        self.targets: Tensor = torch.from_numpy(np.asarray(data.targets, dtype=np.int64))
        self.transform = transform

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index].numpy())
        return self.transform(image), int(self.targets[index])

    def __len__(self) -> int:
        return len(self.images)


def array_of(dataset: Any) -> LabelledImages:
    """The images of torchvision's CIFAR-10, CIFAR-100 and STL-10, not copied."""
    if hasattr(dataset, "labels"):  # STL10, in the order (N, 3, H, W)
        return LabelledImages(dataset.data.transpose(0, 2, 3, 1), dataset.labels)
    return LabelledImages(dataset.data, dataset.targets)


def decode(images: Any, key: str) -> LabelledImages:
    """Reads a data set of image files into one array, on all cores.

    Args:
        images: gives (image, class), images in PIL.
        key: of the config, that asks for it.

    Raises:
        ValueError: the images are not of one size, or more than half of the machine's memory.
    """
    first, _ = images[0]
    size = (first.height, first.width, 3)
    required, there = len(images) * int(np.prod(size)), _memory()
    if required > there / 2:
        raise ConfigError(
            f"{key}=True: {len(images)} images of {first.width} x {first.height} pixels are "
            f"{required / 2**30:.0f} GiB, and this machine has {there / 2**30:.0f}. Expected at "
            "most half of its memory."
        )
    pixels = np.empty((len(images), *size), dtype=np.uint8)
    targets = np.empty(len(images), dtype=np.int64)

    def read(index: int) -> None:
        image, targets[index] = images[index]
        if image.size != first.size:
            raise ConfigError(
                f"{key}=True: image {index} has {image.width} x {image.height} pixels, the first "
                f"{first.width} x {first.height}. Only images of one size are kept in memory."
            )
        pixels[index] = image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(read, range(len(images)), chunksize=256):
            pass
    return LabelledImages(pixels, targets)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
