"""Small data sets of noise, in the files and folders that the real ones come in."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.data_sets.transfer_layouts import idx_files

PER_SPLIT = 16


def noise(count: int, size: int) -> NDArray[np.uint8]:
    """Images (count, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def make(dataset: str, root: Path, classes: int = 4) -> dict[str, str]:
    """Writes a data set below ``root``.

    Returns:
        What ``data.train_path`` and ``data.val_path`` are.
    """
    root.mkdir(parents=True, exist_ok=True)
    if dataset in ("cifar10", "cifar100", "stl10"):
        {"cifar10": _cifar10, "cifar100": _cifar100, "stl10": _stl10}[dataset](root)
        return {"train_path": str(root), "val_path": str(root)}
    if dataset == "fashion_mnist":
        idx_files(root, "FashionMNIST")
        return {"train_path": str(root), "val_path": str(root)}
    if dataset == "tiny_imagenet":
        _tiny_imagenet(root, classes)
        return {"train_path": str(root), "val_path": str(root)}
    for split in ("train", "val"):
        for label in range(classes):
            _save(root / split / f"n{label:08}", noise(PER_SPLIT // classes, 40), "JPEG")
    return {"train_path": str(root / "train"), "val_path": str(root / "val")}


def make_unlabelled(root: Path) -> dict[str, Any]:
    """One folder of images."""
    _save(root, noise(PER_SPLIT, 40), "JPEG")
    return {"train_path": str(root), "val_path": None}


def without_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torchvision take made files for those that it would download."""
    for module in ("cifar", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)


def _save(folder: Path, images: Iterable[Any], suffix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{folder.name}_{number}.{suffix}")


def _cifar_batch(path: Path, labels: str, classes: int) -> None:
    images = noise(PER_SPLIT, 32).transpose(0, 3, 1, 2).reshape(PER_SPLIT, -1)
    content = {"data": images, labels: [n % classes for n in range(PER_SPLIT)]}
    path.write_bytes(pickle.dumps(content))


def _cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        _cifar_batch(folder / name, "labels", 10)
    names = {"label_names": [str(n) for n in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))


def _cifar100(root: Path) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        _cifar_batch(folder / name, "fine_labels", 100)
    names = {"fine_label_names": [str(n) for n in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names))


def _stl10(root: Path) -> None:
    folder = root / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("\n".join(map(str, range(10))))
    for split in ("train", "test", "unlabeled"):
        noise(PER_SPLIT, 96).transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            labels = np.arange(PER_SPLIT, dtype=np.uint8) % 10 + 1
            labels.tofile(folder / f"{split}_y.bin")


def _tiny_imagenet(root: Path, classes: int) -> None:
    each = PER_SPLIT // classes
    for label in range(classes):
        _save(root / "train" / f"n{label:08}" / "images", noise(each, 64), "JPEG")
    _save(root / "val" / "images", noise(PER_SPLIT, 64), "JPEG")
    rows = [f"images_{n}.JPEG\tn{n % classes:08}\t0\t0\t1\t1" for n in range(PER_SPLIT)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
