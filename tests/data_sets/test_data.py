"""The shipped images and the evaluation pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf, open_dict
from PIL import Image, ImageOps

from mixbt_plugin.backbones.narrow_resnet import NarrowResNet10
from mixbt_plugin.data import (
    PROPERTIES,
    SOURCES,
    evaluation_datasets,
    evaluation_transforms,
    pretrain_dataset,
    pretrain_transform,
    take_fraction,
)
from mixbt_plugin.data.memory import ArrayImages
from mixbt_plugin.data.sources import LabelledImages
from tests.apps.composing import composed
from tests.made_images import PER_SPLIT, make, without_checksums


@pytest.mark.parametrize(
    "name,train,test", [("mnist5k", 4000, 1000), ("photo_patches", 4500, 1200)]
)
@pytest.mark.parametrize("color", [False, True])
def test_sources(name: str, train: int, test: int, color: bool) -> None:
    source, known = SOURCES[name], PROPERTIES[name]
    splits = source.load("train", color), source.load("test", color)
    classes: Any = known.num_classes
    for (images, targets), size in zip(splits, (train, test)):
        assert images.shape == (size, known.size, known.size, 3)
        assert images.dtype == np.uint8
        assert targets[:20].tolist() == [n % classes for n in range(20)]
        assert np.bincount(targets).tolist() == [size // classes] * classes
    again = source.load("train", color)
    assert np.array_equal(again.images, splits[0].images)
    grey = np.ptp(splits[0].images.astype(int), axis=-1).max() == 0
    assert grey == (name == "mnist5k" or not color)
    scaled = splits[0].images / 255
    assert np.allclose(scaled.mean(axis=(0, 1, 2)), known.mean, atol=0.08)
    assert np.allclose(scaled.std(axis=(0, 1, 2)), known.std, atol=0.05)


def test_train_and_test_digits_differ() -> None:
    train, test = SOURCES["mnist5k"].load("train", False), SOURCES["mnist5k"].load("test", False)
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)


def test_a_missing_package_is_named() -> None:
    from dataclasses import replace

    source = replace(SOURCES["mnist5k"], packages={"no_such_module": "no-such-package"})
    with pytest.raises(ModuleNotFoundError, match="pip install no-such-package"):
        source.require_packages()


def ramp(height: int = 40, width: int = 40) -> Image.Image:
    pixels = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
    return Image.fromarray(np.repeat(pixels[..., None], 3, axis=-1))


@pytest.mark.parametrize(
    "dataset", ["cifar10", "stl10", "tiny_imagenet", "imagenet", "custom", "mnist5k"]
)
@pytest.mark.parametrize("size", [24, [24, 24], [20, 28]])
def test_evaluation_size_fits(dataset: str, size: Any) -> None:
    expected = (3, *(size if isinstance(size, list) else (size, size)))
    for transform in evaluation_transforms(dataset, size):
        assert transform(ramp()).shape == expected


def test_cifar100_has_its_own_statistics() -> None:
    grey = Image.new("RGB", (32, 32), (128, 128, 128))
    values = {
        name: evaluation_transforms(name, 32)[1](grey)[:, 0, 0] for name in ("cifar10", "cifar100")
    }
    expected = (128 / 255 - torch.tensor([0.5071, 0.4865, 0.4409])) / torch.tensor(
        [0.2673, 0.2564, 0.2762]
    )
    torch.testing.assert_close(values["cifar100"], expected)
    assert not values["cifar10"].allclose(expected)


def edge() -> Image.Image:
    """96 x 96 pixels, black, with a white frame 3 pixels wide."""
    return ImageOps.expand(Image.new("RGB", (90, 90)), 3, (255, 255, 255))


@pytest.mark.parametrize(
    "dataset,size,frame",
    [
        ("stl10", 96, True),  # taken whole
        ("stl10", 64, False),  # 70 pixels, and 64 of the centre
        ("tiny_imagenet", 64, True),
        ("imagenet", 96, False),  # 110 pixels, and 96 of the centre
        ("custom", 64, False),
    ],
)
def test_validation_images_are_whole_or_their_centre(dataset: str, size: int, frame: bool) -> None:
    _, still = evaluation_transforms(dataset, size, [0.0] * 3, [1.0] * 3)
    values = still(edge())
    assert values.shape == (3, size, size)
    assert bool(values[:, 0].min() > 0.9) == frame
    assert values[:, size // 2, size // 2].max() == 0


@pytest.mark.parametrize("dataset", ["cifar10", "tiny_imagenet", "custom"])
def test_training_and_validation_normalise_alike(dataset: str) -> None:
    cfg = composed("pretrain/cifar/mixbt.yaml", f"data.dataset={dataset}")
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    for given in ({}, {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}):
        for augmentation in cfg.augmentations:
            with open_dict(augmentation):
                augmentation.update(
                    color_jitter={"prob": 0}, solarization={"prob": 0}, gaussian_blur={"prob": 0}
                )
                augmentation.update(given)
        first, second = pretrain_transform(cfg)(grey)
        _, still = evaluation_transforms(dataset, 32, given.get("mean"), given.get("std"))
        torch.testing.assert_close(first, still(grey))
        torch.testing.assert_close(second, first)


def test_data_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for name in ("cifar10", "stl10"):
        cfg = OmegaConf.create({"data": {"dataset": name, "train_path": str(tmp_path)}})
        message = (
            f"data.train_path=.*{name} is not there, and cannot be downloaded .no route to host"
        )
        with pytest.raises(ValueError, match=message):
            pretrain_dataset(cfg, lambda x: x)


@pytest.mark.parametrize("no_labels,labels", [(False, {*range(10), -1}), (True, {-1})])
def test_stl10_without_labels_is_its_unlabeled_images(
    no_labels: bool, labels: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_checksums(monkeypatch)
    cfg: Any = OmegaConf.create({"data": {"dataset": "stl10", **make("stl10", tmp_path / "stl")}})
    cfg.data.no_labels = no_labels
    images: Any = pretrain_dataset(cfg, lambda image: image)
    assert len(images) == (PER_SPLIT if no_labels else 2 * PER_SPLIT)
    assert {images[n][2] for n in range(len(images))} == labels
    if no_labels:
        assert len(take_fraction(images, 0.25)) == PER_SPLIT // 4
    labelled: Any = evaluation_datasets(cfg, lambda image: image, lambda image: image)
    assert all(image[1] >= 0 for split in labelled for image in split)


def test_given_statistics_are_used() -> None:
    grey = Image.new("RGB", (32, 32), (255, 255, 255))
    _, still = evaluation_transforms("custom", 32, [0.5] * 3, [0.25] * 3)
    assert still(grey).unique().tolist() == [2.0]


def test_digits_are_not_mirrored_and_photographs_are() -> None:
    def mirrors(dataset: str) -> bool:
        return "RandomHorizontalFlip" in str(evaluation_transforms(dataset, 16)[0])

    assert not mirrors("mnist5k")
    assert mirrors("photo_patches")
    assert mirrors("cifar10")


def test_fraction_is_stratified_and_repeatable() -> None:
    targets = np.repeat(np.arange(4), [40, 20, 20, 20])
    images = ArrayImages(LabelledImages(np.zeros((100, 2, 2, 3), np.uint8), targets), lambda x: x)
    part, again = take_fraction(images, 0.2), take_fraction(images, 0.2)
    assert list(part.indices) == list(again.indices)
    assert np.bincount([target for _, target in part]).tolist() == [8, 4, 4, 4]
    assert take_fraction(images, -1) is images


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.5])
def test_bad_fraction(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"data.fraction={fraction}"):
        take_fraction(list(range(10)), fraction)


def test_missing_folder() -> None:
    cfg = OmegaConf.create({"data": {"dataset": "custom", "train_path": "/no/where"}})
    with pytest.raises(ValueError, match="data.train_path=./no/where.: no such folder"):
        pretrain_dataset(cfg, lambda x: x)


def test_small_backbone() -> None:
    backbone = NarrowResNet10()
    assert sum(p.numel() for p in backbone.parameters()) == pytest.approx(1.2e6, rel=0.05)
    for size in (16, 32, 64):
        assert backbone(torch.zeros(2, 3, size, size)).shape == (2, 256)
