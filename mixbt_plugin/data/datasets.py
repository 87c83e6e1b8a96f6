"""Data sets by the config's ``data.dataset``: the host's, and those of `sources`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from torch.utils.data import Dataset, Subset

from mixbt_plugin.data.sources import SOURCES, LabelledImages
from mixbt_plugin.host import prepare_evaluation_datasets, prepare_pretrain_dataset

Transform = Callable[[Any], Any]


class ArrayImages(Dataset[Any]):
    """Images held in memory.

    Args:
        data: images and classes.
        transform: of a PIL image.
        with_index: give (index, image, class), as pre-training asks for, not (image, class).
    """

    def __init__(
        self, data: LabelledImages, transform: Transform, *, with_index: bool = False
    ) -> None:
        self.images, self.targets = data
        self.transform = transform
        self.with_index = with_index

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image = self.transform(Image.fromarray(self.images[index]))
        target = int(self.targets[index])
        return (index, image, target) if self.with_index else (image, target)

    def __len__(self) -> int:
        return len(self.images)


def default_image_size(dataset: str) -> int:
    """Height and width that a data set is evaluated at where a config does not say."""
    if dataset in SOURCES:
        return SOURCES[dataset].size
    return {"cifar10": 32, "cifar100": 32, "stl10": 96}.get(dataset, 224)


def pretrain_dataset(cfg: DictConfig, transform: Transform) -> Dataset[Any]:
    """Training images of a parsed pre-training config, as (index, views, class).

    Args:
        cfg: with ``data.dataset``, its paths, ``data.fraction`` and, for ``photo_patches``,
            ``data.color`` (false by default).
        transform: from a PIL image to views.

    Returns:
        The data set.

    Raises:
        ValueError: a folder is missing or ``data.fraction`` is out of range.
        ModuleNotFoundError: the package that carries the images is missing.
    """
    source = SOURCES.get(cfg.data.dataset)
    if source is not None:
        source.require_packages()
        images: Any = ArrayImages(
            source.load("train", cfg.data.get("color", False)), transform, with_index=True
        )
    else:
        _require_folder(cfg, "data.train_path", cfg.data.get("train_path"))
        images = prepare_pretrain_dataset(
            cfg.data.dataset,
            transform,
            train_data_path=cfg.data.train_path,
            data_format=cfg.data.format,
            no_labels=cfg.data.no_labels,
        )
    return take_fraction(images, cfg.data.fraction)


def evaluation_datasets(
    cfg: DictConfig, train_transform: Transform, val_transform: Transform
) -> tuple[Dataset[Any], Dataset[Any]]:
    """Labelled training and validation images of a config, as (image, class).

    Args:
        cfg: as for `pretrain_dataset`, with ``data.val_path``; ``data.fraction`` is not applied.
        train_transform: of a PIL training image.
        val_transform: of a PIL validation image.

    Returns:
        Both data sets.

    Raises:
        ValueError: a folder is missing.
        ModuleNotFoundError: the package that carries the images is missing.
    """
    source = SOURCES.get(cfg.data.dataset)
    if source is not None:
        source.require_packages()
        color = cfg.data.get("color", False)
        return (
            ArrayImages(source.load("train", color), train_transform),
            ArrayImages(source.load("test", color), val_transform),
        )
    for key in ("train_path", "val_path"):
        _require_folder(cfg, f"data.{key}", cfg.data.get(key))
    train, val = prepare_evaluation_datasets(
        cfg.data.dataset,
        train_transform,
        val_transform,
        train_data_path=cfg.data.train_path,
        val_data_path=cfg.data.val_path,
        data_format=cfg.data.get("format", "image_folder"),
    )
    return train, val


def take_fraction(images: Any, fraction: float) -> Any:
    """A share of a data set, stratified by its labels where it has any, always the same one.

    Args:
        images: a data set; its classes are read from ``targets`` or ``labels``.
        fraction: in (0, 1); -1 takes all.

    Returns:
        The data set, or a subset of it.

    Raises:
        ValueError: ``fraction`` is neither.
    """
    if fraction == -1:
        return images
    if not 0 < fraction < 1:
        raise ValueError(f"data.fraction={fraction}: expected a share in (0, 1), or -1 for all.")
    from sklearn.model_selection import train_test_split

    labels = getattr(images, "targets", None)
    if labels is None:
        labels = getattr(images, "labels", None)
    indexes, _ = train_test_split(
        range(len(images)), train_size=fraction, stratify=labels, random_state=42
    )
    return Subset(images, indexes)


def _require_folder(cfg: DictConfig, key: str, path: str | None) -> None:
    if path is None:
        raise ValueError(f"{key} is missing from the config.")
    downloaded = cfg.data.dataset in ("cifar10", "cifar100", "stl10")
    if not downloaded and not Path(path).exists():
        raise ValueError(f"{key}={path!r}: no such folder.")
