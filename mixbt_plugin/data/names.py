"""Names of files: which are hidden, and many of them without a Python object for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that programs leave behind, and no user means.

    Such as ``._x.png`` and ``__MACOSX`` of macOS, and ``.ipynb_checkpoints`` of Jupyter.
    """
    return name.startswith(".") or name == "__MACOSX"


class FileNames(Sequence[str]):
    """Names of files in two tensors, which all processes of a loader share.

    Of a list each process that is forked would in time get a copy: reading a Python object changes
    the number of references to it, which stands beside it in memory. For processes that are spawned
    PyTorch moves tensors to shared memory.

    Args:
        names: in their order; of any bytes but 0, as file systems have them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._bytes = torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy())
        self._ends = torch.from_numpy(ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        place = range(len(self))[index]
        first, last = self._ends[place : place + 2].tolist()
        return os.fsdecode(self._bytes[first:last].numpy().tobytes())

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._ends) - 1
