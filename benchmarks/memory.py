"""What each loader process adds to the memory: ``python -m benchmarks.memory``.

After an epoch in which every image was read once, the memory of the run's process and of its
loader's processes, in two cases: ``--images`` of 32 px in an array (of noise; by default as many as
CIFAR-10 has), and ``--files`` of 32 px in class folders (links to a few hundred patches of
photographs; by default as many as Tiny-ImageNet has).
The processes only read the images: what is looked for is what the data set holds beside them.

Memory is the proportional set size (PSS) without mapped files: a page that n processes share counts
1/n for each, so that the sum is what the machine needs; mapped files are libraries, which other
programs share too.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.interleaved import machine, table
from mixbt_plugin.apps.seeding import EpochSampler, SeededDataset
from mixbt_plugin.data import as_tensor, pretrain_dataset
from mixbt_plugin.data.datasets import WithIndex
from mixbt_plugin.data.memory import ArrayImages
from mixbt_plugin.data.reading import ReadableImages
from mixbt_plugin.data.sources import LabelledImages, load_photo_patches

CLASSES = 100
PICTURES = 500


def array(count: int) -> Any:
    """Images in an array."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    images = ArrayImages(LabelledImages(pixels, np.arange(count) % CLASSES), as_tensor)
    return ReadableImages(WithIndex(images), skip=False)


def folders(root: Path, files: int) -> Any:
    """Class folders with image files, which are links to a few."""
    pictures = []
    for n, patch in enumerate(load_photo_patches("train", True).images[:PICTURES]):
        pictures.append(root / f"{n}.jpg")
        Image.fromarray(patch).save(pictures[-1])
    for n in range(files):
        folder = root / "train" / f"n{10_000_000 + n % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{folder.name}_{n}.jpg").symlink_to(pictures[n % PICTURES])
    data = {"dataset": "custom", "train_path": str(root / "train"), "fraction": -1}
    return pretrain_dataset(OmegaConf.create({"data": data}), as_tensor)


def held(images: Any, workers: int, start: str) -> list[float]:
    """MiB of this process and of each of the loader's, after an epoch."""
    gc.collect()
    loader: DataLoader[Any] = DataLoader(
        SeededDataset(images, 0),
        sampler=EpochSampler(len(images), 0, lambda: 0),
        batch_size=256,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=start if workers else None,
    )
    iterator = iter(loader)
    for _ in iterator:
        pass
    processes = [worker.pid for worker in getattr(iterator, "_workers", [])]
    return [proportional(process) for process in ("self", *processes)]


def proportional(process: int | str) -> float:
    """PSS in MiB, without mapped files."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--start", choices=["fork", "spawn"], default="fork")
    args = parser.parse_args(arguments)
    print(machine("torchvision"))
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for name, images in (
            (f"array of {args.images:,}", array(args.images)),
            (f"{args.files:,} files", folders(Path(root), args.files)),
        ):
            (alone,) = held(images, 0, args.start)
            for workers in args.workers:
                each = held(images, workers, args.start)
                mean, added = sum(each[1:]) / workers, (sum(each) - alone) / workers
                rows.append([name, workers, *(f"{mib:.0f}" for mib in (sum(each), mean, added))])
    print(table(["images", "workers", "all, MiB", "PSS of each, MiB", "each adds, MiB"], rows))


if __name__ == "__main__":
    main()
