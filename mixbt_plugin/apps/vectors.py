"""Vectors of many images on disk, in shards of which one at a time is in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbt_plugin.checkpoints import PARTIAL, written_whole
from mixbt_plugin.settings import ConfigError

INDEX = "index.json"
PART = re.compile(rf"part-\d{{5}}\.(npz|parquet)({re.escape(PARTIAL)})?")
Format = Literal["npz", "parquet"]


class Vectors(NamedTuple):
    """Vectors of n images.

    Attributes:
        features: float32 (n, F).
        files: the images' names (n,).
        places: of the images in their data set, int64 (n,).
        targets: their classes, int64 (n,), -1 where there are none.
    """

    features: NDArray[np.float32]
    files: NDArray[np.str_]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]

    def at(self, which: Any) -> Vectors:
        """Those that a slice or an array of indexes selects."""
        fields: Any = (field[which] for field in self)
        return Vectors(*fields)


@dataclass(frozen=True)
class VectorFolder:
    """A folder ``part-00000.npz``, ``part-00001.npz``, … and, written last, ``index.json``.

    Attributes:
        path: of the folder.
        format: ``npz``: arrays named as the fields of `Vectors`; ``parquet``: such columns.
    """

    path: Path
    format: Format

    def write(self, batches: Iterable[Vectors], shard: int, about: Mapping[str, Any]) -> None:
        """Writes shards.

        Args:
            batches: of any sizes.
            shard: vectors in a file; the last holds fewer.
            about: what stands in ``index.json`` beside the number of images and the files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for left in self.path.glob("part-*"):
            if PART.fullmatch(left.name):  # of a run that was interrupted, and not of somebody else
                left.unlink()
        names, images = [], 0
        for number, vectors in enumerate(_in_shards(batches, shard)):
            name = f"part-{number:05}.{self.format}"
            with written_whole(self.path / name) as partial, partial.open("wb") as file:
                if self.format == "npz":
                    np.savez(file, **vectors._asdict())
                else:
                    _write_parquet(file, vectors)
            names.append(name)
            images += len(vectors.files)
        index = {**about, "images": images, "parts": names}
        with written_whole(self.path / INDEX) as partial:
            partial.write_text(json.dumps(index, indent=2) + "\n")

    def index(self) -> dict[str, Any] | None:
        """What ``index.json`` says; None where the folder is not written to its end.

        Raises:
            ConfigError: it is another program's.
        """
        file = self.path / INDEX
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text())
        except ValueError:
            found = None
        if not isinstance(found, dict) or "parts" not in found:
            raise ConfigError(f"folder={str(self.path)!r}: its {INDEX} is not one of mixbt-embed.")
        return found

    def is_whole(self) -> bool:
        """Whether all files are there that ``index.json`` names."""
        index = self.index()
        return index is not None and all((self.path / name).is_file() for name in index["parts"])

    def __iter__(self) -> Iterator[Vectors]:
        """The shards, one after the other."""
        index = self.index()
        if index is None:
            raise ConfigError(f"folder={str(self.path)!r}: there is no {INDEX} in it.")
        for name in index["parts"]:
            yield _read(self.path / name)


def _in_shards(batches: Iterable[Vectors], shard: int) -> Iterator[Vectors]:
    held: list[Vectors] = []
    count = 0
    for batch in batches:
        while count + len(batch.files) >= shard:
            rest = shard - count
            yield _joined([*held, batch.at(slice(rest))])
            held, count, batch = [], 0, batch.at(slice(rest, None))
        held.append(batch)
        count += len(batch.files)
    if count:
        yield _joined(held)


def _joined(parts: list[Vectors]) -> Vectors:
    fields: Any = (np.concatenate(each) for each in zip(*parts))
    return Vectors(*fields)


def _write_parquet(file: Any, vectors: Vectors) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = vectors._asdict()
    columns["features"] = pyarrow.FixedSizeListArray.from_arrays(
        vectors.features.reshape(-1), vectors.features.shape[1]
    )
    columns["files"] = vectors.files.tolist()
    parquet.write_table(pyarrow.table(columns), file)


def _read(path: Path) -> Vectors:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return Vectors(**arrays)
    from pyarrow import parquet

    table = parquet.read_table(path)
    features = table["features"].combine_chunks().flatten().to_numpy()
    return Vectors(
        features.reshape(len(table), -1),
        np.array(table["files"].to_pylist()),
        *(table[name].to_numpy() for name in ("places", "targets")),
    )


class Neighbours(NamedTuple):
    """The images nearest to each of Q others, (Q, k), the nearest first.

    Attributes:
        similarity: cosine.
        places: in the data set.
        files: their names.
    """

    similarity: Tensor
    places: Tensor
    files: NDArray[np.str_]


def nearest(shards: Iterable[Vectors], queries: Tensor, k: int, own: Sequence[str]) -> Neighbours:
    """The k images whose vectors are nearest, by cosine.

    Args:
        shards: looked through one by one.
        queries: vectors (Q, F).
        k: number of neighbours; all where there are fewer.
        own: the name that each query has if it is among the images, and is left out there.
    """
    best: Neighbours | None = None
    queries = F.normalize(queries, dim=1)
    for shard in shards:
        similarity = queries @ F.normalize(torch.from_numpy(shard.features), dim=1).T
        for row, name in zip(similarity, own):
            row[torch.from_numpy(shard.files == name)] = -torch.inf
        top = similarity.topk(min(k, len(shard.files)))
        found = Neighbours(
            top.values, torch.from_numpy(shard.places)[top.indices], shard.files[top.indices]
        )
        best = found if best is None else _nearest_of(best, found, k)
    if best is None:
        raise ConfigError("there are no vectors to look for neighbours in.")
    return best


def _nearest_of(one: Neighbours, other: Neighbours, k: int) -> Neighbours:
    similarity, places = (torch.cat(pair, dim=1) for pair in zip(one[:2], other[:2]))
    files = np.concatenate([one.files, other.files], axis=1)
    top = similarity.topk(min(k, similarity.shape[1]))
    return Neighbours(
        top.values,
        places.gather(1, top.indices),
        np.take_along_axis(files, top.indices.numpy(), axis=1),
    )


def spread(shards: Iterable[Vectors], images: int, wanted: int) -> Vectors:
    """At most as many vectors as are wanted, evenly spread over all images."""
    chosen = np.unique(np.linspace(0, images - 1, min(wanted, images)).round().astype(np.int64))
    parts, first = [], 0
    for shard in shards:
        last = first + len(shard.files)
        inside = chosen[(chosen >= first) & (chosen < last)] - first
        parts.append(shard.at(inside))
        first = last
    return _joined(parts)
