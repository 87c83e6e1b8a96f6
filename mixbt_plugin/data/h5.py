"""Images in an H5 file, in solo-learn's layout (solo/data/h5_dataset.py)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from mixbt_plugin.data.names import FileNames, is_hidden
from mixbt_plugin.data.reading import read_image
from mixbt_plugin.settings import MissingPackageError


class H5Images(Dataset[Any]):
    """An H5 file as (image, class): a group for each class, in it the bytes of each image file.

    solo-learn keeps the list of a file's images in the home folder, under the file's base name,
    and reads it again without looking whether the file is another one; this lists it each time.

    Args:
        path: of the file.
        transform: of a PIL image.
        classes: names of the groups to read, numbered in alphabetical order; all where none of
            them is there, or none is given.

    Attributes:
        paths: of the images in the file, ``class/image``.
        targets: int64 (N,), the class of each.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        OSError: it is not an H5 file, or holds no images.
    """

    def __init__(
        self,
        path: str | Path,
        transform: Callable[[Any], Any],
        classes: Sequence[str] | None = None,
    ) -> None:
        self.path = str(path)
        self.transform = transform
        self._file: Any = None
        self._process = -1
        self.classes = h5_classes(path, classes)
        with _h5py().File(self.path, "r") as file:
            samples = [
                (f"{name}/{image}", number)
                for number, name in enumerate(self.classes)
                if name in file
                for image in file[name]
                if not is_hidden(image)
            ]
        if not samples:
            raise OSError("holds no images: a group for each class, their files' bytes in it.")
        self.paths = FileNames(path for path, _ in samples)
        self.targets = torch.tensor([number for _, number in samples])

    def read(self, index: int) -> Any:
        """An image as it is."""
        path = self.paths[index]
        return read_image(io.BytesIO(self._opened()[path][:]), f"{self.path}:{path}")

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.read(index)), int(self.targets[index])

    def __len__(self) -> int:
        return len(self.paths)

    def _opened(self) -> Any:
        # An H5 file that was opened before a fork must not be read after it.
        if self._process != os.getpid():
            self._file, self._process = _h5py().File(self.path, "r"), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": -1}


def h5_classes(path: str | Path, classes: Sequence[str] | None = None) -> list[str]:
    """The classes of `H5Images` in the order of their numbers."""
    with _h5py().File(str(path), "r") as file:
        present = sorted(name for name in file if not is_hidden(name))
    return sorted(classes) if classes and not set(classes).isdisjoint(present) else present


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingPackageError("data.format='h5': pip install \"mixbt-plugin[h5]\"") from error
    return h5py
