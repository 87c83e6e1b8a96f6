"""Files that hold weights: read without executing anything in them, and written whole."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mixbt_plugin.settings import ConfigError, MissingFileError


def exclude_bias_and_norm(*_: Any) -> None:
    """Stands in for a function of this name, and does nothing.

    The optimiser state of Barlow Twins' checkpoints refers to a function of its main.py:262, which
    PyTorch, reading weights only, would refuse.
    """


exclude_bias_and_norm.__module__ = "__main__"


def read_file(path: str | Path) -> Any:
    """The content of a file of ``torch.save`` or safetensors; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds anything but tensors in plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such checkpoint.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_checksums(path)
        with torch.serialization.safe_globals([exclude_bias_and_norm]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path}: not a checkpoint that can be read ({error}).") from error


def read_checkpoint(checkpoint: str | Path) -> dict[str, Any]:
    """The content of a checkpoint of pre-training; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a checkpoint.
    """
    content = read_file(checkpoint)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ConfigError(f"{checkpoint}: holds no 'state_dict'; not a checkpoint of pre-training.")
    return content


def _require_checksums(path: Path) -> None:
    # torch.load does not look at the checksums that torch.save writes.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ConfigError(f"damaged: {damaged} disagrees with its checksum")


PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which then takes its place (`put_in_place`)."""
    partial = path.with_name(path.name + PARTIAL)
    yield partial
    put_in_place(partial, path)


def put_in_place(partial: Path, path: Path) -> None:
    """Renames a file that is written in full, so that ``path`` is whole whenever one stops."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
