"""Images in an H5 file, in solo-learn's layout (solo/data/h5_dataset.py) or without classes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixbt_plugin.data.files import ImageFiles, Listing
from mixbt_plugin.data.names import is_hidden
from mixbt_plugin.data.reading import UnreadableImageError, read_image
from mixbt_plugin.evaluation.accuracy import NO_LABEL
from mixbt_plugin.settings import MissingPackageError


class H5Images(ImageFiles):
    """An H5 file as (image, class): a group for each class, in it the bytes of each image file.

    Without labels, the bytes of the images may also stand in the file itself. solo-learn keeps the
    list of a file's images in the home folder, under the file's base name, and reads it again
    without looking whether the file is another one; this lists it each time.

    Args:
        path: of the file.
        transform: of a PIL image.
        classes: names of the groups to read, numbered in alphabetical order; all where none of
            them is there, or none is given.
        no_labels: groups are no classes.

    Attributes:
        paths: of the images in the file, ``class/image``.
        targets: int64 (N,), the class of each; None without labels.

    Raises:
        ModuleNotFoundError: h5py is not installed.
        OSError: it is not an H5 file, or holds no images, or images where classes are expected.
    """

    def __init__(
        self,
        path: str | Path,
        transform: Callable[[Any], Any],
        classes: Sequence[str] | None = None,
        *,
        no_labels: bool = False,
    ) -> None:
        self.path = str(path)
        self._file: Any = None
        self._process = -1
        with _h5py().File(self.path, "r") as file:
            listing = _without_classes(file) if no_labels else _of_classes(file, classes)
        if not listing.paths:
            raise OSError("holds no images: a group for each class, their files' bytes in it.")
        super().__init__(listing, transform)

    def read(self, index: int) -> Any:
        """An image as it is."""
        path = self.paths[index]
        name = f"{self.path}:{path}"
        try:
            content = np.asarray(self._opened()[path][()]).tobytes()
        # h5py raises OSError, KeyError, TypeError, … by damage, and for a group.
        except Exception as error:
            raise UnreadableImageError(
                f"{name}: expected the bytes of an image file ({type(error).__name__}: {error})"
            ) from error
        return read_image(io.BytesIO(content), name)

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
        return _classes(file, classes)


def _classes(file: Any, classes: Sequence[str] | None) -> list[str]:
    present = _visible(file)
    images = [name for name in present if not _is_group(file, name)]
    if images:
        raise OSError(
            f"{images[0]!r} is no group; expected a group for each class, or data.no_labels=true."
        )
    return sorted(classes) if classes and not set(classes).isdisjoint(present) else present


def _of_classes(file: Any, selected: Sequence[str] | None) -> Listing:
    classes = _classes(file, selected)
    samples = [
        (f"{name}/{image}", number)
        for number, name in enumerate(classes)
        if name in file
        for image in _visible(file[name])
    ]
    return Listing([path for path, _ in samples], [number for _, number in samples], classes)


def _without_classes(file: Any) -> Listing:
    paths = []
    for name in _visible(file):
        in_group = _is_group(file, name)
        paths += [f"{name}/{image}" for image in _visible(file[name])] if in_group else [name]
    return Listing(paths, [NO_LABEL] * len(paths), [])


def _visible(group: Any) -> list[str]:
    return sorted(name for name in group if not is_hidden(name))


def _is_group(file: Any, name: str) -> bool:
    return file.get(name, getclass=True) is _h5py().Group


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingPackageError("data.format='h5': pip install \"mixbt-plugin[h5]\"") from error
    return h5py
