"""Data sets of image files: folders of class folders, plain folders, Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from torchvision.datasets.folder import (
    IMG_EXTENSIONS,
    find_classes,
    has_file_allowed_extension,
    make_dataset,
)

from mixbt_plugin.data.names import FileNames
from mixbt_plugin.data.reading import read_image

ANNOTATIONS = "val_annotations.txt"
NO_LABEL = -1


class Listing(NamedTuple):
    """Files, the class of each, and the classes' names in the order of their numbers."""

    paths: list[str]
    targets: list[int]
    classes: list[str]


class ImageFiles(Dataset[Any]):
    """Image files as (image, class).

    Args:
        listing: the files.
        transform: of a PIL image.

    Attributes:
        paths: of the files.
        targets: int64 (N,), the class of each; None without labels.
    """

    def __init__(self, listing: Listing, transform: Callable[[Any], Any]) -> None:
        self.paths = FileNames(listing.paths)
        self.classes = listing.classes
        self._targets = torch.tensor(listing.targets)
        self.targets = self._targets if self.classes else None
        self.transform = transform

    def read(self, index: int) -> Any:
        """An image as it is."""
        path = self.paths[index]
        return read_image(path, path)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.read(index)), int(self._targets[index])

    def __len__(self) -> int:
        return len(self.paths)


def class_names(root: str | Path) -> list[str]:
    """The class folders of a folder, in the order of their numbers.

    Raises:
        FileNotFoundError: there are none.
    """
    return find_classes(root)[0]


def class_folders(root: str | Path) -> Listing:
    """The images of a folder of class folders, numbered as torchvision's ``ImageFolder`` does.

    Raises:
        FileNotFoundError: there are no class folders, or one without images.
    """
    classes, numbers = find_classes(root)
    samples = make_dataset(root, numbers, IMG_EXTENSIONS)
    return Listing([path for path, _ in samples], [number for _, number in samples], classes)


def plain_folder(root: str | Path) -> Listing:
    """The images of one folder, without classes, by name.

    solo-learn takes them in the order of the file system, and every file for an image.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(
        str(path)
        for path in Path(root).iterdir()
        if has_file_allowed_extension(path.name, IMG_EXTENSIONS)
    )
    if not paths:
        raise FileNotFoundError("no images in it; class folders are read without data.no_labels.")
    return Listing(paths, [NO_LABEL] * len(paths), [])


def tiny_imagenet_folder(root: str | Path, split: str) -> Path:
    """The folder of a split: ``root`` is ``tiny-imagenet-200``, or its ``train`` or ``val``."""
    folder = Path(root)
    return folder / split if (folder / split).is_dir() else folder


def tiny_imagenet(root: str | Path, split: str) -> Listing:
    """A split of Tiny-ImageNet, as downloaded from cs231n.stanford.edu.

    Args:
        root: see `tiny_imagenet_folder`.
        split: ``train``, whose classes have folders, or ``val``, whose classes stand in
            ``val_annotations.txt``; where that file is not there, folders again.

    Raises:
        FileNotFoundError: there are no images, or not all that ``val_annotations.txt`` names.
    """
    folder = tiny_imagenet_folder(root, split)
    if split == "train" or not (folder / ANNOTATIONS).is_file():
        return class_folders(folder)
    rows = [line.split("\t") for line in (folder / ANNOTATIONS).read_text().splitlines() if line]
    images = folder / "images"
    present = {path.name for path in images.iterdir()}
    missing = [name for name, *_ in rows if name not in present]
    if missing:
        raise FileNotFoundError(
            f"{ANNOTATIONS} names {len(missing)} files that are not in {images}: {missing[0]}, …"
        )
    classes = sorted({name for _, name, *_ in rows})
    numbers = {name: number for number, name in enumerate(classes)}
    return Listing(
        [str(images / name) for name, *_ in rows], [numbers[name] for _, name, *_ in rows], classes
    )
