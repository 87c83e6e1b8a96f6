"""The data sets of mix-bt's transfer table, by torchvision's own classes where it has them.

Splits are the official ones: of DTD the first partition, train and val for training, as mix-bt
(transfer_datasets/); of Flowers102 likewise train and val. mix-bt divides Flowers and traffic signs
80 : 20 at random instead, and takes the signs of IJCNN 2013, which torchvision does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import DTD, GTSRB, MNIST, FashionMNIST, FGVCAircraft, Flowers102

from mixbt_plugin.data.files import ImageFiles, Listing, class_folders
from mixbt_plugin.data.sources import LabelledImages
from mixbt_plugin.settings import MissingFileError

FILES: dict[str, tuple[Any, dict[str, list[str]]]] = {
    "dtd": (DTD, {"train": ["train", "val"], "val": ["test"]}),
    "aircraft": (FGVCAircraft, {"train": ["trainval"], "val": ["test"]}),
    "flowers102": (Flowers102, {"train": ["train", "val"], "val": ["test"]}),
    "gtsrb": (GTSRB, {"train": ["train"], "val": ["test"]}),
}
SIGNS = "gtsrb/GTSRB/Training"
ARRAYS: dict[str, Any] = {"mnist": MNIST, "fashion_mnist": FashionMNIST}
PLACES = {
    "dtd": "dtd/dtd/images, labels",
    "aircraft": "fgvc-aircraft-2013b/data",
    "flowers102": "flowers-102/jpg, imagelabels.mat, setid.mat",
    "gtsrb": "gtsrb/GTSRB/Training, Final_Test/Images, gtsrb/GT-final_test.csv",
    "mnist": "MNIST/raw/*-ubyte",
    "fashion_mnist": "FashionMNIST/raw/*-ubyte",
    "cub200": "CUB_200_2011/images.txt, image_class_labels.txt, train_test_split.txt, images",
}
"""What lies below the folder; all but CUB-200 are downloaded."""
TRANSFER = tuple(PLACES)


class CroppedFiles(ImageFiles):
    """Image files of which a part is taken.

    Args:
        listing: the files.
        transform: of a PIL image.
        boxes: left, upper, right and lower border of each file's part, in pixels.
    """

    def __init__(
        self, listing: Listing, transform: Callable[[Any], Any], boxes: list[tuple[int, ...]]
    ) -> None:
        super().__init__(listing, transform)
        self.boxes = torch.tensor(boxes)

    def read(self, index: int) -> Any:
        """The part of an image."""
        return super().read(index).crop(self.boxes[index].tolist())


def transfer_files(
    name: str, root: Path, split: str, transform: Callable[[Any], Any], crop_to_box: bool = True
) -> ImageFiles:
    """A data set of image files.

    Args:
        name: a name of `TRANSFER` that is not in `ARRAYS`.
        root: torchvision's folder for its data sets; ``CUB_200_2011`` stands in it too.
        split: ``train`` or ``val``; the latter is the official test split.
        transform: of a PIL image.
        crop_to_box: of ``aircraft``, whether each image is cropped to the aircraft, as mix-bt does.

    Raises:
        FileNotFoundError: it is not there and cannot be downloaded.
    """
    if name == "cub200":
        listing = _or_tell_where(name, lambda: _cub(root / "CUB_200_2011", split))
    elif name == "gtsrb" and split == "train" and (root / SIGNS).is_dir():
        # torchvision takes hidden folders for further signs; of a fresh download there are none.
        listing = class_folders(root / SIGNS)
    else:
        constructor, parts = FILES[name]
        listing = _or_tell_where(
            name,
            lambda: _joined([constructor(str(root), part, download=True) for part in parts[split]]),
        )
    if name == "aircraft" and crop_to_box:
        boxes = root / "fgvc-aircraft-2013b" / "data" / "images_box.txt"
        return CroppedFiles(listing, transform, _boxes(boxes, listing.paths))
    return ImageFiles(listing, transform)


def transfer_arrays(name: str, root: Path, split: str) -> LabelledImages:
    """MNIST or FashionMNIST, 28 pixels, grey as RGB.

    Raises:
        FileNotFoundError: it is not there and cannot be downloaded.
    """
    images = _or_tell_where(
        name, lambda: ARRAYS[name](str(root), train=split == "train", download=True)
    )
    rgb = np.repeat(images.data.numpy()[..., None], 3, axis=-1)
    return LabelledImages(rgb, images.targets.numpy())


def _or_tell_where(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise MissingFileError(
            f"{name} can neither be read there nor downloaded ({reason}). On a machine without "
            f"network put there: {PLACES[name]}."
        ) from error


def _joined(parts: list[Any]) -> Listing:
    """Torchvision's image files and classes, which it keeps under several names."""
    paths, targets = [], []
    for part in parts:
        if hasattr(part, "_samples"):
            paths += [path for path, _ in part._samples]
            targets += [target for _, target in part._samples]
        else:
            paths += [str(path) for path in part._image_files]
            targets += part._labels
    classes = getattr(parts[0], "classes", None) or [str(n) for n in range(max(targets) + 1)]
    return Listing(paths, targets, list(classes))


def _cub(root: Path, split: str) -> Listing:
    names, labels, in_training = (
        _column(root / f"{table}.txt")
        for table in ("images", "image_class_labels", "train_test_split")
    )
    wanted = "1" if split == "train" else "0"
    chosen = [number for number in names if in_training[number] == wanted]
    classes = sorted({name.split("/")[0] for name in names.values()})
    return Listing(
        [str(root / "images" / names[number]) for number in chosen],
        [int(labels[number]) - 1 for number in chosen],
        classes,
    )


def _column(table: Path) -> dict[str, str]:
    """The second column of a table by its first."""
    rows = (line.split() for line in table.read_text().splitlines() if line)
    return {number: value for number, value in rows}


def _boxes(table: Path, paths: list[str]) -> list[tuple[int, ...]]:
    """The borders by file; in the table they are counted from 1 and belong to the part."""
    rows = (line.split() for line in table.read_text().splitlines() if line)
    boxes = {name: tuple(map(int, box)) for name, *box in rows}
    found = [boxes[Path(path).stem] for path in paths]
    return [(left - 1, upper - 1, right, lower) for left, upper, right, lower in found]
