"""Data sets by solo-learn's names, from torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import CIFAR10, CIFAR100, STL10, ImageFolder

CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
Transform = Callable[[Any], Any]


class WithIndex(Dataset[Any]):
    """A data set of (image, class) as one of (index, image, class)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        # torchvision says targets, but STL10 labels; a folder without labels has neither.
        self.targets = getattr(dataset, "targets", getattr(dataset, "labels", None))

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (index, *self.dataset[index])

    def __len__(self) -> int:
        return len(self.dataset)


class UnlabelledFolder(Dataset[Any]):
    """All image files of a folder, each with the class -1.

    Args:
        root: the folder.
        transform: of a PIL image.
    """

    def __init__(self, root: str | Path, transform: Transform) -> None:
        self.images = sorted(path for path in Path(root).iterdir() if path.is_file())
        self.transform = transform

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.open(self.images[index]).convert("RGB")), -1

    def __len__(self) -> int:
        return len(self.images)


def prepare_pretrain_dataset(
    dataset: str,
    transform: Transform,
    train_data_path: str | Path,
    data_format: str = "image_folder",
    no_labels: bool = False,
) -> Dataset[Any]:
    """Training images for pre-training, as (index, views, class).

    Args:
        dataset: ``cifar10``, ``cifar100``, ``stl10`` (train+unlabeled), ``imagenet``,
            ``imagenet100`` or ``custom``; the last three are folders of class folders.
        transform: from a PIL image to views.
        train_data_path: the folder; CIFAR and STL-10 are downloaded into it.
        data_format: ``image_folder``.
        no_labels: ``custom`` is one folder of images.

    Returns:
        The data set.
    """
    if dataset in CIFAR:
        images: Any = CIFAR[dataset](str(train_data_path), True, transform, download=True)
    elif dataset == "stl10":
        images = STL10(str(train_data_path), "train+unlabeled", transform=transform, download=True)
    elif dataset == "custom" and no_labels:
        images = UnlabelledFolder(train_data_path, transform)
    else:
        images = ImageFolder(str(train_data_path), transform)
    return WithIndex(images)


def prepare_evaluation_datasets(
    dataset: str,
    T_train: Transform,  # noqa: N803
    T_val: Transform,  # noqa: N803
    train_data_path: str | Path,
    val_data_path: str | Path,
    data_format: str = "image_folder",
) -> tuple[Dataset[Any], Dataset[Any]]:
    """Labelled training and validation images, as (image, class).

    Args:
        dataset: as in `prepare_pretrain_dataset`; of STL-10 the splits train and test.
        T_train: of a PIL training image.
        T_val: of a PIL validation image.
        train_data_path: folder of the training images.
        val_data_path: folder of the validation images.
        data_format: ``image_folder``.

    Returns:
        Both data sets.
    """
    if dataset in CIFAR:
        train: Any = CIFAR[dataset](str(train_data_path), True, T_train, download=True)
        val: Any = CIFAR[dataset](str(val_data_path), False, T_val, download=True)
    elif dataset == "stl10":
        train = STL10(str(train_data_path), "train", transform=T_train, download=True)
        val = STL10(str(val_data_path), "test", transform=T_val, download=True)
    else:
        train = ImageFolder(str(train_data_path), T_train)
        val = ImageFolder(str(val_data_path), T_val)
    return train, val
