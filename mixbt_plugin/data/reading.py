"""Image files, and what happens with those that cannot be read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from torch.utils.data import Dataset

from mixbt_plugin.settings import ConfigError

LOOKED_AT = 16
EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes that its own conversion brings to RGB rightly."""


class UnreadableImageError(ConfigError):
    """An image file that cannot be decoded; the message names it."""


def read_image(file: str | Path | BinaryIO, name: str | Path) -> Any:
    """A PIL image in RGB, 8 bits a channel.

    Transparency is dropped and a rotation that EXIF asks for is ignored, as in torchvision and
    solo-learn. Of 16 bits, white is 65535, and of floating-point numbers 1; Pillow's own
    conversion would cut them off at 255.

    Args:
        file: path, or an open file.
        name: what an error calls it.

    Raises:
        UnreadableImageError: it cannot be decoded to its end, or it is not known what its white is.
    """
    try:
        with Image.open(file) as image:
            return _as_rgb(image)
    except _UnknownWhiteError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
    # Pillow raises OSError, SyntaxError, ValueError, struct.error, … by format and damage.
    except Exception as error:
        raise UnreadableImageError(
            f"{name}: cannot be read as an image ({type(error).__name__}: {error})"
        ) from error


class _UnknownWhiteError(ValueError):
    """An image of a mode that Pillow can decode, but not bring to 8 bits rightly."""


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in EIGHT_BITS:
        return image.convert("RGB")
    white = _white(image)
    values = np.asarray(image)
    if white == 1 and not (values.min() >= 0 and values.max() <= 1):
        raise _UnknownWhiteError(
            f"holds floats from {values.min():g} to {values.max():g}; expected them in [0, 1]"
        )
    levels = np.rint(values * np.float64(255 / white)).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


def _white(image: Image.Image) -> int:
    """The value of white in an image of more than 8 bits."""
    if isinstance(image, TiffImageFile):
        # Pillow decodes 12 bits as they are, and does not invert what is more than 8 bits.
        if image.tag_v2.get(BITSPERSAMPLE) == (12,):
            raise _UnknownWhiteError("is a TIFF of 12 bits; expected 16, or 8")
        if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
            raise _UnknownWhiteError("is a TIFF in which 0 is white; expected black")
    if image.mode == "F":
        return 1
    # Pillow gives 16 bits of PGM, and before 11.3 of PNG, in this mode of 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return 65535
    raise _UnknownWhiteError(
        f"is of Pillow's mode {image.mode!r}; expected {', '.join(EIGHT_BITS)}, 16 bits of grey, "
        "or floats in [0, 1]"
    )


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

    Warns of those that are of one colour: a scan that was saved wrongly looks so.

    Args:
        images: with ``read(index)``.
        skip: whether it is enough that one of them can be read.

    Raises:
        UnreadableImageError: one cannot be read, or none.
    """
    unreadable, of_one_colour = [], []
    indexes = _few(images)
    for index in indexes:
        try:
            image = images.read(index)
        except UnreadableImageError as error:
            unreadable.append(error)
        else:
            if all(low == high for low, high in image.getextrema()):
                of_one_colour.append(images.paths[index])
    if unreadable and (not skip or len(unreadable) == len(indexes)):
        raise UnreadableImageError(
            f"{len(unreadable)} of {len(indexes)} images that were tried cannot be read. "
            f"{unreadable[0]}. Replace or remove such files, or set data.unreadable=skip."
        )
    if of_one_colour:
        warnings.warn(
            f"{len(of_one_colour)} of {len(indexes)} images that were looked at are of one colour: "
            f"{of_one_colour[0]}",
            stacklevel=2,
        )


def shapes_of_a_few(images: Any) -> list[tuple[int, int]]:
    """Heights and widths of the images that `look_at_a_few` looks at, each once."""
    shapes = []
    for index in _few(images):
        try:
            width, height = images.read(index).size
        except UnreadableImageError:
            continue
        shapes.append((height, width))
    return list(dict.fromkeys(shapes))


def _few(images: Any) -> list[int]:
    return sorted({place * len(images) // LOOKED_AT for place in range(LOOKED_AT)})


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
