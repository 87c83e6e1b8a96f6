"""The transfer data sets, read by torchvision's classes from miniatures on the disk."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from torchvision.transforms.functional import pil_to_tensor

from mixbt_plugin.data import PROPERTIES, evaluation_datasets, evaluation_transforms, take_part
from mixbt_plugin.data.sources import load_mnist5k
from mixbt_plugin.data.transfer import TRANSFER
from tests.data_sets.transfer_layouts import LAYOUTS, PHOTOS, flowers102

pytestmark = pytest.mark.filterwarnings("ignore:.*holds .* classes")
SIZES = {
    "dtd": (4, 2),
    "aircraft": (2, 2),
    "flowers102": (4, 2),
    "gtsrb": (4, 3),
    "mnist": (4000, 1000),
    "fashion_mnist": (4000, 1000),
    "cub200": (4, 2),
}
TARGETS = {
    "dtd": ([0, 1, 0, 1], [0, 1]),
    "aircraft": ([1, 0], [1, 0]),
    "flowers102": ([0, 1, 1, 0], [1, 0]),
    "gtsrb": ([0, 0, 1, 1], [0, 1, 0]),
    "cub200": ([0, 0, 1, 1], [0, 1]),
}


def config(name: str, root: Path, **data: Any) -> DictConfig:
    paths = {"train_path": str(root), "val_path": str(root), "format": "image_folder"}
    return OmegaConf.create({"data": {"dataset": name, **paths, **data}})


def datasets(
    name: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    transform: Any = pil_to_tensor,
    **data: Any,
) -> tuple[Any, Any]:
    if name == "flowers102":
        flowers102(root, monkeypatch)
    else:
        LAYOUTS[name](root)
    return evaluation_datasets(config(name, root, **data), pil_to_tensor, pil_to_tensor)


@pytest.mark.parametrize("name", TRANSFER)
def test_images_and_classes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = datasets(name, tmp_path, monkeypatch)
    assert (len(train), len(val)) == SIZES[name]
    for images, targets in zip((train, val), TARGETS.get(name, (None, None))):
        assert images[0][0].shape[0] == 3
        if targets is not None:
            assert [images[n][1] for n in range(len(images))] == targets
            assert list(images.targets) == targets
    size = PROPERTIES[name].size
    for transform in evaluation_transforms(name, size):
        train.images.transform = transform
        assert train[0][0].shape == (3, size, size)


def test_signs_are_the_pixels_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, val = datasets("gtsrb", tmp_path, monkeypatch)
    for n in range(3):
        assert val[n][0].equal(pil_to_tensor(PHOTOS[8 + n]))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_digits_are_those_of_the_idx_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, val = datasets(name, tmp_path, monkeypatch)
    images, targets = load_mnist5k("test")
    for n in (0, 999):
        assert np.array_equal(val[n][0].permute(1, 2, 0).numpy(), images[n, 2:-2, 2:-2])
        assert val[n][1] == targets[n]


@pytest.mark.parametrize("crop", [True, False])
def test_aircraft_are_cropped_to_their_boxes(
    crop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = datasets("aircraft", tmp_path, monkeypatch, crop_to_box=crop)
    # From column 3 to 22 and row 5 to 28, counted from 1.
    assert train[0][0].shape == ((3, 24, 20) if crop else (3, 32, 32))


def test_a_share_of_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = datasets("mnist", tmp_path, monkeypatch)
    part = take_part(train, config("mnist", tmp_path, fraction=0.1))
    assert np.bincount([part[n][1] for n in range(len(part))]).tolist() == [40] * 10


@pytest.mark.parametrize("name", TRANSFER)
def test_without_network_the_message_says_what_to_put_where(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    (tmp_path / "something").touch()
    with pytest.raises(ValueError, match=f"data.train_path=.*{name} can neither be read there"):
        evaluation_datasets(config(name, tmp_path), pil_to_tensor, pil_to_tensor)


def test_table_agrees_with_torchvision() -> None:
    from torchvision.datasets import MNIST, FashionMNIST, Flowers102

    for name, theirs in (
        ("mnist", MNIST),
        ("fashion_mnist", FashionMNIST),
        ("flowers102", Flowers102),
    ):
        # torchvision 0.20 has no list of the flowers.
        assert PROPERTIES[name].num_classes == len(getattr(theirs, "classes", range(102)))
    assert {name: PROPERTIES[name].split for name in TRANSFER} == dict.fromkeys(TRANSFER, "test")
