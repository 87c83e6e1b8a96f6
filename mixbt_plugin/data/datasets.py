"""Data sets by the config's ``data.dataset``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

from omegaconf import DictConfig
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, CIFAR100, STL10

from mixbt_plugin.data.checks import existing_path
from mixbt_plugin.data.files import (
    ImageFiles,
    class_folders,
    class_names,
    folder_without_classes,
    tiny_imagenet,
    tiny_imagenet_folder,
)
from mixbt_plugin.data.h5 import H5Images, h5_classes
from mixbt_plugin.data.memory import ArrayImages, array_of, decode
from mixbt_plugin.data.properties import properties
from mixbt_plugin.data.reading import ReadableImages, look_at_a_few, shapes_of_a_few, targets_of
from mixbt_plugin.data.sources import SOURCES
from mixbt_plugin.data.subsets import take_part
from mixbt_plugin.data.transfer import ARRAYS, TRANSFER, transfer_arrays, transfer_files
from mixbt_plugin.host import imagenet100_classes
from mixbt_plugin.settings import ConfigError, pipeline_names, plain
from mixbt_plugin.views import ViewSettings

Transform = Callable[[Any], Any]
DOWNLOADED: dict[str, Any] = {"cifar10": CIFAR10, "cifar100": CIFAR100, "stl10": STL10}


class WithIndex(Dataset[Any]):
    """A data set of (views, class) as (index, views, class), as pre-training asks for."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.targets = targets_of(images)
        self.paths = getattr(images, "paths", None)

    def __getitem__(self, index: int) -> tuple[int, Any, int]:
        return (int(index), *self.images[index])

    def __len__(self) -> int:
        return len(self.images)


def pretrain_dataset(
    cfg: DictConfig, transform: Transform, names: Sequence[str] | None = None
) -> Dataset[Any]:
    """Training images of a parsed pre-training config, as (index, views, class).

    Args:
        cfg: with ``data.dataset``, its paths, the keys of `take_part`; for ``custom`` and
            ``stl10`` ``data.no_labels``, for ``photo_patches`` ``data.color`` (both false by
            default). ``data.in_memory`` (true for Tiny-ImageNet, else false) reads image files
            once, into one array; CIFAR, STL-10 and the sources always are one.
        transform: from a PIL image to views.
        names: what the user calls the pipelines; by default `pipeline_names`.

    Returns:
        The data set; of STL-10 ``train+unlabeled``, with ``data.no_labels`` ``unlabeled`` alone.

    Raises:
        ValueError: a folder is missing or empty, or there is no such part; or whole images
            of different shapes are taken at one length of the shorter side.
        ModuleNotFoundError: the package that carries or reads the images is missing.
    """
    files = _images(cfg, "train", transform, pretrain=True)
    if not isinstance(files, ArrayImages):
        _require_views_of_one_shape(cfg, files, names or pipeline_names(cfg))
    images = WithIndex(_kept(files, transform, cfg) if _in_memory(cfg, files) else files)
    images.targets = targets_of(files)
    return take_part(ReadableImages(images, skip=_skips(cfg)), cfg)


def _require_views_of_one_shape(cfg: DictConfig, files: Any, names: Sequence[str]) -> None:
    entries = plain(cfg.get("augmentations")) or []
    views = [ViewSettings.read(entry, (0.0,) * 3, (1.0,) * 3) for entry in entries]
    of_one_length = [(name, view) for name, view in zip(names, views) if len(view.crop_size) == 1]
    found = shapes_of_a_few(files) if of_one_length else []
    for name, view in of_one_length:
        shapes = {view.view_size(*shape): shape for shape in found}
        if len(shapes) > 1:
            (one, other), ((h, w), (height, width)) = list(shapes)[:2], list(shapes.values())[:2]
            raise ConfigError(
                f"{name}.crop_size={view.crop_size[0]} with {name}.rrc.enabled=False is the length "
                f"of the shorter side: images of {h} x {w} and of {height} x {width} become views "
                f"of {one[0]} x {one[1]} and of {other[0]} x {other[1]}, which make no batch; "
                "expected [height, width]."
            )


def _in_memory(cfg: DictConfig, images: Any) -> bool:
    given = cfg.data.get("in_memory")
    wanted: bool = cfg.data.dataset == "tiny_imagenet" if given is None else given
    return wanted and not isinstance(images, ArrayImages)


def _kept(files: Any, transform: Transform, cfg: DictConfig) -> ArrayImages:
    files.transform = _as_it_is
    return ArrayImages(decode(ReadableImages(files, skip=_skips(cfg)), "data.in_memory"), transform)


def _as_it_is(image: Any) -> Any:
    return image


def evaluation_datasets(
    cfg: DictConfig, train_transform: Transform, val_transform: Transform
) -> tuple[Dataset[Any], Dataset[Any]]:
    """Labelled training and validation images of a config, as (image, class).

    Args:
        cfg: as for `pretrain_dataset`, with ``data.val_path``; no part is taken.
        train_transform: of a PIL training image.
        val_transform: of a PIL validation image.

    Returns:
        Both data sets.

    Raises:
        ValueError: a folder is missing or empty, or the two hold different classes.
        ModuleNotFoundError: the package that carries or reads the images is missing.
    """
    train = ReadableImages(_images(cfg, "train", train_transform), skip=_skips(cfg))
    return train, validation_dataset(cfg, val_transform)


def has_training_labels(cfg: DictConfig) -> bool:
    """Whether the training images of a config have classes; STL-10's always have some."""
    return cfg.data.dataset != "custom" or not cfg.data.get("no_labels")


def validation_dataset(cfg: DictConfig, transform: Transform) -> Dataset[Any]:
    """The validation images alone; see `evaluation_datasets`."""
    images = _images(cfg, "val", transform)
    ours = getattr(images, "classes", None)
    comparable = cfg.data.dataset not in (*DOWNLOADED, *TRANSFER) and has_training_labels(cfg)
    if comparable and ours is not None:
        theirs = _training_classes(cfg)
        if ours != theirs:
            raise ConfigError(
                f"data.val_path={str(cfg.data.val_path)!r}: its classes are not those of "
                f"data.train_path={str(cfg.data.train_path)!r}: {_difference(ours, theirs)}. They "
                "are numbered in alphabetical order, so both must have the same."
            )
    return ReadableImages(images, skip=_skips(cfg))


def split_as_it_is(cfg: DictConfig, split: str) -> Any:
    """The images of a split, ``train`` or ``val``, as (PIL image, class), in their order.

    Raises:
        ValueError: a folder is missing or empty.
        ModuleNotFoundError: the package that carries or reads the images is missing.
    """
    unlabelled = split == "train" and not has_training_labels(cfg)
    return _images(cfg, split, _as_it_is, pretrain=unlabelled)


def unlabelled_files(root: Path, key: str) -> ImageFiles:
    """The images of a folder and of those in it, as (PIL image, -1), in their order.

    Args:
        root: the folder.
        key: that gave it, for messages.

    Raises:
        ValueError: there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise ConfigError(f"{key}={str(root)!r}: no such folder.")
    try:
        return ImageFiles(folder_without_classes(root), _as_it_is)
    except OSError as error:
        raise ConfigError(f"{key}={str(root)!r}: {error}") from error


def number_of_classes(cfg: DictConfig) -> int:
    """How many classes the data set of a config has; 1 where there are no labels.

    Raises:
        ValueError: ``data.train_path`` holds no classes.
    """
    known = properties(cfg.data.dataset).num_classes
    if known is None:
        return 1 if cfg.data.get("no_labels") else len(_training_classes(cfg))
    return known


def _skips(cfg: DictConfig) -> bool:
    return cfg.data.get("unreadable") == "skip"


def _training_classes(cfg: DictConfig) -> list[str]:
    """Without listing the images."""
    path = existing_path(cfg, "data.train_path")
    try:
        if cfg.data.get("format") == "h5":
            return h5_classes(path, _h5_selection(cfg.data.dataset))
        if cfg.data.dataset == "tiny_imagenet":
            path = tiny_imagenet_folder(path, "train")
        return class_names(path)
    except OSError as error:
        raise ConfigError(f"data.train_path={str(path)!r}: {error}") from error


def _difference(val: list[str], train: list[str]) -> str:
    parts = [
        f"{len(names)} only in {where} ({', '.join(sorted(names)[:3])}{', …' * (len(names) > 3)})"
        for where, names in (
            ("data.val_path", set(val) - set(train)),
            ("data.train_path", set(train) - set(val)),
        )
        if names
    ]
    return ", ".join(parts)


def _images(cfg: DictConfig, split: str, transform: Transform, *, pretrain: bool = False) -> Any:
    name, key = cfg.data.dataset, f"data.{split}_path"
    if name in SOURCES:
        SOURCES[name].require_packages()
        color = cfg.data.get("color", False)
        return ArrayImages(
            SOURCES[name].load("train" if split == "train" else "test", color), transform
        )
    path = existing_path(cfg, key)
    unlabelled = pretrain and cfg.data.get("no_labels", False)
    try:
        if name in ARRAYS:
            return ArrayImages(transfer_arrays(name, path, split), transform)
        if name in DOWNLOADED:
            return ArrayImages(array_of(_downloaded(cfg, split, pretrain)(str(path))), transform)
        if name in TRANSFER:
            crop = cfg.data.get("crop_to_box", True)
            images: Any = transfer_files(name, path, split, transform, crop)
        elif cfg.data.get("format") == "h5":
            images = H5Images(path, transform, _h5_selection(name), no_labels=unlabelled)
        elif name == "tiny_imagenet":
            images = ImageFiles(tiny_imagenet(path, split), transform)
        elif unlabelled:
            images = ImageFiles(folder_without_classes(path), transform)
        else:
            images = ImageFiles(class_folders(path), transform)
    except URLError as error:
        raise ConfigError(
            f"{key}={str(path)!r}: {name} is not there, and cannot be downloaded ({error.reason})."
        ) from error
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{key}={str(path)!r}: {error}") from error
    look_at_a_few(images, skip=_skips(cfg))
    expected, found = properties(name).num_classes, len(images.classes)
    if expected is not None and found > expected:
        raise ConfigError(
            f"{key}={str(path)!r}: holds {found} classes, and {name} has {expected}. "
            "data.dataset=custom takes any number."
        )
    if expected is not None and found < expected:
        warnings.warn(f"{key}: {path} holds {found} of {name}'s {expected} classes.", stacklevel=2)
    return images


def _h5_selection(name: str) -> list[str] | None:
    return imagenet100_classes() if name == "imagenet100" else None


def _downloaded(cfg: DictConfig, split: str, pretrain: bool) -> Callable[..., Any]:
    if cfg.data.dataset == "stl10":
        of_pretraining = "unlabeled" if cfg.data.get("no_labels") else "train+unlabeled"
        splits = {"train": of_pretraining if pretrain else "train", "val": "test"}
        return partial(STL10, split=splits[split], download=True)
    return partial(DOWNLOADED[cfg.data.dataset], train=split == "train", download=True)
