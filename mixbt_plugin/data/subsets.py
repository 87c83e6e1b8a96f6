"""Parts of the training images: a share of each class, or the files of a list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch.utils.data import Subset

from mixbt_plugin.data.reading import ReadableImages, targets_of
from mixbt_plugin.settings import ConfigError

FRACTION_SEED = 42
"""As in solo-learn, so that a fraction is the same images in every format and for every seed."""


def require_a_batch(cfg: DictConfig, images: int, processes: int) -> None:
    """Raises ConfigError where a process has fewer images than a batch: there would be no step.

    Args:
        cfg: with ``optimizer.batch_size``.
        images: in the training set.
        processes: that share them.
    """
    share = images // processes
    if share < cfg.optimizer.batch_size:
        among = f" on {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"optimizer.batch_size={cfg.optimizer.batch_size}{among}: the training set has only "
            f"{images} images, and incomplete batches are dropped; expected at most {share}."
        )


def take_part(images: Any, cfg: DictConfig) -> Any:
    """The images that ``data.train_subset`` lists, or the share ``data.fraction`` of them.

    Raises:
        ValueError: both are given, or one cannot be taken.
    """
    fraction, listed = cfg.data.get("fraction", -1), cfg.data.get("train_subset")
    if listed is None:
        return take_fraction(images, fraction)
    if fraction != -1:
        raise ConfigError(
            f"data.fraction={fraction} with data.train_subset={listed!r}: expected one of them."
        )
    return take_listed(images, listed)


def take_fraction(images: Any, fraction: float) -> Any:
    """A share of a data set, stratified by its labels where it has any, always the same one.

    Args:
        images: a data set; its classes are read from ``targets`` or ``labels``.
        fraction: in (0, 1); -1 takes all.

    Returns:
        The data set, or a subset of it: that of solo-learn. One whose unreadable images are
        replaced stays one, and replaces from the subset.

    Raises:
        ValueError: ``fraction`` is neither, or too small for the classes.
    """
    if fraction == -1:
        return images
    if not 0 < fraction < 1:
        raise ConfigError(f"data.fraction={fraction}: expected a share in (0, 1), or -1 for all.")
    from sklearn.model_selection import train_test_split

    try:
        indexes, _ = train_test_split(
            range(len(images)),
            train_size=fraction,
            stratify=targets_of(images),
            random_state=FRACTION_SEED,
        )
    except ValueError as error:
        raise ConfigError(
            f"data.fraction={fraction}: cannot be drawn from {len(images)} images. {error}"
        ) from error
    return _subset(images, indexes)


def take_listed(images: Any, listed: str | Path) -> Any:
    """The images of a list, in its order.

    Args:
        images: a data set of image files.
        listed: a text file with a file name in each line, as SimCLR's lists of 1 % and 10 % of
            ImageNet, or with some of its folders too, ``n01440764/n01440764_10.JPEG``.

    Raises:
        ValueError: there is no list, the data set has no file names, or a line means none or
            several of them.
    """
    key = f"data.train_subset={str(listed)!r}"
    if not Path(listed).is_file():
        raise ConfigError(f"{key}: no such file.")
    paths = getattr(getattr(images, "images", images), "paths", None)
    if paths is None:
        raise ConfigError(f"{key}: this data set has no file names; data.fraction takes a share.")
    lines = [line.strip() for line in Path(listed).read_text().splitlines() if line.strip()]
    places = _places(paths, lines)
    wrong = [line for line in lines if len(places[line]) != 1]
    if wrong or not lines:
        found = f"{len(places[wrong[0]])} images" if wrong else "no lines"
        which = f" {wrong[0]!r} ({len(wrong)} of {len(lines)} lines)" if wrong else ""
        raise ConfigError(f"{key}:{which} means {found}; expected one image a line.")
    return _subset(images, [places[line][0] for line in lines])


def _places(paths: Sequence[str], lines: Sequence[str]) -> dict[str, list[int]]:
    """Where the files stand whose paths end with each line, by the line."""
    of_name: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        of_name.setdefault(os.path.basename(path), []).append(place)
    return {
        line: [
            place
            for place in of_name.get(os.path.basename(line), ())
            if f"/{paths[place]}".endswith(f"/{line}")
        ]
        for line in lines
    }


def _subset(images: Any, chosen: Sequence[int]) -> Any:
    # An array, for the reason that `FileNames` gives.
    indexes: Any = np.asarray(chosen)
    if isinstance(images, ReadableImages):
        return ReadableImages(Subset(images.images, indexes), skip=images.skip)
    return Subset(images, indexes)
