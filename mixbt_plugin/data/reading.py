"""Image files, and what happens with those that cannot be read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image
from torch.utils.data import Dataset

LOOKED_AT = 16


class UnreadableImageError(ValueError):
    """An image file that cannot be decoded; the message names it."""


def read_image(file: str | Path | BinaryIO, name: str | Path) -> Any:
    """A PIL image in RGB.

    Args:
        file: path, or an open file.
        name: what an error calls it.

    Raises:
        UnreadableImageError: it cannot be decoded to its end.
    """
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    # Pillow raises OSError, SyntaxError, ValueError, struct.error, … by format and damage.
    except Exception as error:
        raise UnreadableImageError(
            f"{name}: cannot be read as an image ({type(error).__name__}: {error})"
        ) from error


class ReadableImages(Dataset[Any]):
    """A data set in which a file that cannot be read stops the run, or is skipped if asked.

    An image that is skipped is replaced by the next one, in the data set's order, that can be
    read. Which one that is depends on the files alone, so that a resumed run has the same batches.

    Args:
        images: a data set that raises `UnreadableImageError`.
        skip: whether to replace, and to warn, instead of raising.

    Attributes:
        replaced: the indexes that were replaced, as flags (N,) in memory that the loader's
            processes share.
        targets: the data set's, before any replacement.
    """

    def __init__(self, images: Any, *, skip: bool) -> None:
        self.images = images
        self.skip = skip
        self.targets = targets_of(images)
        self.replaced = torch.zeros(len(images), dtype=torch.bool).share_memory_()

    def __getitem__(self, index: int) -> Any:
        try:
            return self.images[index]
        except UnreadableImageError as error:
            if not self.skip:
                raise UnreadableImageError(
                    f"{error}. Replace or remove the file; data.unreadable=skip puts the next "
                    "image in its place, and counts."
                ) from error
            warnings.warn(f"skipped: {error}", stacklevel=2)
            self.replaced[index] = True
            return self._next(index)

    def _next(self, index: int) -> Any:
        for step in range(1, len(self)):
            try:
                return self.images[(index + step) % len(self)]
            except UnreadableImageError:
                continue
        raise UnreadableImageError("none of the images can be read.")

    def __len__(self) -> int:
        return len(self.images)


def targets_of(images: Any) -> Any:
    """The classes of a data set's images; None where there are none."""
    # torchvision says targets, but STL10 labels.
    return getattr(images, "targets", getattr(images, "labels", None))


def look_at_a_few(images: Any, *, skip: bool) -> None:
    """Reads some images that are spread over a data set; all would take too long before training.

    Args:
        images: with ``read(index)``.
        skip: whether it is enough that one of them can be read.

    Raises:
        UnreadableImageError: one cannot be read, or none.
    """
    indexes = sorted({place * len(images) // LOOKED_AT for place in range(LOOKED_AT)})
    unreadable = []
    for index in indexes:
        try:
            images.read(index)
        except UnreadableImageError as error:
            unreadable.append(error)
    if unreadable and (not skip or len(unreadable) == len(indexes)):
        raise UnreadableImageError(
            f"{len(unreadable)} of {len(indexes)} images that were tried cannot be read. "
            f"{unreadable[0]}. Replace or remove such files, or set data.unreadable=skip."
        )


def count_replaced(images: Any) -> int:
    """How many images of a data set were replaced since the last count.

    Args:
        images: `ReadableImages`, or something whose ``dataset`` is, at any depth.
    """
    while images is not None and not isinstance(images, ReadableImages):
        images = getattr(images, "dataset", None)
    if images is None:
        return 0
    count = int(images.replaced.sum())
    images.replaced.zero_()
    return count
