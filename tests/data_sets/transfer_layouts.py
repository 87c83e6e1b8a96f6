"""Miniatures of the transfer data sets' folders, of real images, as their archives unpack."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102

from mixbt_plugin.data.sources import load_mnist5k, load_photo_patches

PHOTOS = [Image.fromarray(photo) for photo in load_photo_patches("train", True).images[:24]]


def put(photo: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PHOTOS[photo].save(path)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    for n, part in enumerate(("train", "val", "test")):
        names = [f"{texture}/{texture}_{n}.jpg" for texture in ("banded", "woven")]
        for photo, name in enumerate(names):
            put(2 * n + photo, folder / "images" / name)
        write(folder / "labels" / f"{part}1.txt", *names)


def aircraft(root: Path) -> None:
    folder = root / "fgvc-aircraft-2013b" / "data"
    write(folder / "variants.txt", "707-320", "Boeing 717")
    boxes = []
    for part, first in (("trainval", 0), ("test", 4)):
        rows = []
        for n, variant in enumerate(("Boeing 717", "707-320")):
            put(first + n, folder / "images" / f"{first + n:07}.jpg")
            rows.append(f"{first + n:07} {variant}")
            boxes.append(f"{first + n:07} 3 5 22 28")
        write(folder / f"images_variant_{part}.txt", *rows)
    write(folder / "images_box.txt", *boxes)


def flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flowers-102"
    for n in range(1, 7):
        put(n, folder / "jpg" / f"image_{n:05}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]])})
    savemat(folder / "setid.mat", {"trnid": [[1, 4]], "valid": [[2, 3]], "tstid": [[6, 5]]})
    # torchvision compares checksums, which a miniature cannot have.
    files = dict(Flowers102._file_dict)
    for key in ("label", "setid"):
        name = files[key][0]
        files[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(Flowers102, "_file_dict", files)


def gtsrb(root: Path) -> None:
    folder = root / "gtsrb"
    for sign in range(2):
        for n in range(2):
            put(2 * sign + n, folder / "GTSRB" / "Training" / f"{sign:05}" / f"{n:05}.ppm")
    rows = []
    for n in range(3):
        put(8 + n, folder / "GTSRB" / "Final_Test" / "Images" / f"{n:05}.ppm")
        rows.append(f"{n:05}.ppm;30;30;5;5;25;25;{n % 2}")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    write(folder / "GT-final_test.csv", header, *rows)


def cub200(root: Path) -> None:
    folder = root / "CUB_200_2011"
    names = [f"{bird}/{bird}_{n}.jpg" for bird in ("001.Albatross", "002.Crow") for n in range(3)]
    for photo, name in enumerate(names):
        put(photo, folder / "images" / name)
    numbers = range(1, 7)
    write(folder / "images.txt", *(f"{n} {name}" for n, name in zip(numbers, names)))
    write(folder / "image_class_labels.txt", *(f"{n} {1 + (n > 3)}" for n in numbers))
    write(folder / "train_test_split.txt", *(f"{n} {int(n % 3 != 0)}" for n in numbers))


def idx_files(root: Path, name: str) -> None:
    """Real digits in MNIST's own format: all of mnist5k, without its padding."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, targets = load_mnist5k(split)  # type: ignore[arg-type]
        grey = np.ascontiguousarray(images[:, 2:-2, 2:-2, 0])
        header = struct.pack(">iiii", 0x803, *grey.shape)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + grey.tobytes())
        header = struct.pack(">ii", 0x801, len(targets))
        labels = targets.astype(np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "dtd": dtd,
    "aircraft": aircraft,
    "gtsrb": gtsrb,
    "cub200": cub200,
    "mnist": lambda root: idx_files(root, "MNIST"),
    "fashion_mnist": lambda root: idx_files(root, "FashionMNIST"),
}
"""All but Flowers102, whose checksums need a monkeypatch."""
