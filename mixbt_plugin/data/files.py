"""Data sets of image files: class folders, folders without classes, Tiny-ImageNet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from mixbt_plugin.data.names import FileNames, is_hidden
from mixbt_plugin.data.reading import read_image
from mixbt_plugin.evaluation.accuracy import NO_LABEL
from mixbt_plugin.settings import MissingFileError

ANNOTATIONS = "val_annotations.txt"


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
    with os.scandir(root) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)]
    if not names:
        raise MissingFileError(
            "there is no class folder in it; images without classes are read with "
            "data.no_labels=true in pre-training, and as images=… where they are embedded or "
            "diagnosed."
        )
    return sorted(names)


def class_folders(root: str | Path) -> Listing:
    """The images of a folder of class folders, numbered as torchvision's ``ImageFolder`` does.

    Raises:
        FileNotFoundError: there are no class folders, or one without images.
        OSError: see `image_paths`.
    """
    classes = class_names(root)
    found = [image_paths(os.path.join(root, name)) for name in classes]
    empty = [name for name, paths in zip(classes, found) if not paths]
    if empty:
        raise MissingFileError(f"there are no images in the class folders {', '.join(empty)}.")
    targets = [number for number, paths in enumerate(found) for _ in paths]
    return Listing([path for paths in found for path in paths], targets, classes)


def folder_without_classes(root: str | Path) -> Listing:
    """The images of one folder and of those in it, without classes.

    solo-learn takes those of the folder alone, in the order of the file system, and every file for
    an image.

    Raises:
        FileNotFoundError: there are none.
        OSError: see `image_paths`.
    """
    paths = image_paths(root)
    if not paths:
        raise MissingFileError("there are no images in it.")
    return Listing(paths, [NO_LABEL] * len(paths), [])


def image_paths(root: str | Path) -> list[str]:
    """The images of a folder and of those in it, in the order in which torchvision lists them.

    Links are followed. Hidden files and folders are left out.

    Raises:
        OSError: a link leads back to a folder that it lies in.
    """
    return sorted(_image_paths(str(root), ()), key=os.path.split)


def _image_paths(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    here = os.path.realpath(folder)
    if here in above:
        raise OSError(f"{folder} is a link to {here}, a folder that it lies in.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _image_paths(entry.path, (*above, here))
            elif entry.name.lower().endswith(IMG_EXTENSIONS):
                yield entry.path


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
        raise MissingFileError(
            f"{ANNOTATIONS} names {len(missing)} files that are not in {images}: {missing[0]}, …"
        )
    classes = sorted({name for _, name, *_ in rows})
    numbers = {name: number for number, name in enumerate(classes)}
    return Listing(
        [str(images / name) for name, *_ in rows], [numbers[name] for _, name, *_ in rows], classes
    )
