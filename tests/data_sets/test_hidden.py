"""Files that programs leave behind are no images, and folders are read at any depth."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from mixbt_plugin.data import dali_pretraining, evaluation_datasets, pretrain_dataset, take_part
from mixbt_plugin.data.h5 import H5Images
from tests.data_sets.transfer_layouts import gtsrb
from tests.images import CLASSES, image_folder, tiny_imagenet

LEFT_BEHIND = ("._x.png", ".hidden.png", ".ipynb_checkpoints/0.png", "__MACOSX/._0.png")
"""By macOS, editors and Jupyter; real images, so that nothing but their names tells."""


def config(dataset: str, folder: Path, **data: Any) -> DictConfig:
    paths = {"train_path": str(folder / "train"), "val_path": str(folder / "val")}
    return OmegaConf.create({"data": {"dataset": dataset, **paths, **data}})


def leave_behind(folder: Path, image: Path) -> None:
    for name in LEFT_BEHIND:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, folder / name)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("once"))


@pytest.fixture
def images(once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(once, tmp_path / "images")


@pytest.fixture
def littered(images: Path) -> Path:
    """Class folders, everywhere in which something was left behind."""
    for folder in [images / "train", images / "val", *images.glob("*/class*")]:
        leave_behind(folder, images / "train" / "class0" / "0.png")
    return images


def test_class_folders(littered: Path) -> None:
    splits: Any = evaluation_datasets(config("custom", littered), pil_to_tensor, pil_to_tensor)
    for split in splits:
        assert split.images.classes == [f"class{n}" for n in range(CLASSES)]
        assert torch.bincount(split.targets).tolist() == [8] * CLASSES


def test_a_list_of_files_does_not_mean_hidden_ones(littered: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("class0/._x.png\n")
    cfg = config("custom", littered, train_subset=str(listed))
    with pytest.raises(ValueError, match=r"'class0/._x.png' \(1 of 1 lines\) means 0 images"):
        pretrain_dataset(cfg, pil_to_tensor)


def test_a_folder_without_labels(littered: Path) -> None:
    folder = littered / "train" / "class0"
    cfg = config("custom", littered, train_path=str(folder), no_labels=True)
    assert len(pretrain_dataset(cfg, pil_to_tensor)) == 8  # type: ignore[arg-type]


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = tiny_imagenet(tmp_path / "tiny-imagenet-200", per_class=1)
    image = next(root.glob("val/images/*"))
    for folder in [root, root / "train", root / "val", next(root.glob("train/*/images"))]:
        leave_behind(folder, image)
    cfg = config("tiny_imagenet", root)
    splits: Any = evaluation_datasets(cfg, pil_to_tensor, pil_to_tensor)
    assert [len(split) for split in splits] == [200, 200]


def test_traffic_signs(tmp_path: Path) -> None:
    gtsrb(tmp_path)
    training = tmp_path / "gtsrb" / "GTSRB" / "Training"
    image = training / "00000" / "00000.ppm"
    (training / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/0.ppm", "00001/._00000.ppm"):
        shutil.copy(image, training / name)
    cfg = config("gtsrb", tmp_path, train_path=str(tmp_path), val_path=str(tmp_path))
    with pytest.warns(UserWarning, match="2 of gtsrb's 43 classes"):
        train: Any = evaluation_datasets(cfg, pil_to_tensor, pil_to_tensor)[0]
    assert train.targets.tolist() == [0, 0, 1, 1]


def test_an_h5_file_that_was_made_of_such_a_folder(littered: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra [h5])")
    with h5py.File(littered / "train.h5", "w") as file:
        for path in sorted((littered / "train").glob("*/*.png")):
            file[f"{path.parent.name}/{path.name}"] = np.frombuffer(path.read_bytes(), np.uint8)
    read: Any = H5Images(littered / "train.h5", pil_to_tensor)
    assert read.classes == [f"class{n}" for n in range(CLASSES)]
    assert torch.bincount(read.targets).tolist() == [8] * CLASSES


@pytest.mark.parametrize("left", ["train/.ipynb_checkpoints/0.png", "train/class2/._x.png"])
def test_dali_reads_every_file_so_that_they_are_refused(images: Path, left: str) -> None:
    (images / left).parent.mkdir(exist_ok=True)
    shutil.copy(images / "train" / "class0" / "0.png", images / left)
    cfg = config("custom", images, fraction=-1)
    cfg.optimizer = {"batch_size": 2}
    with pytest.raises(ValueError, match=rf"data.format='dali': .*{Path(left).parts[-2]}.* hidden"):
        dali_pretraining(cfg, world_size=1)


def test_folders_at_any_depth_in_the_order_of_torchvision(images: Path) -> None:
    root = images / "train"
    for n, deeper in enumerate(("a", "a/b", "a-b", "A")):
        (root / "class0" / deeper).mkdir(exist_ok=True)
        (root / "class0" / f"{n}.png").rename(root / "class0" / deeper / f"{n}.png")
    cfg = config("custom", images)
    labelled: Any = pretrain_dataset(cfg, pil_to_tensor)
    expected = ImageFolder(str(root)).samples
    assert list(labelled.images.paths) == [path for path, _ in expected]
    assert labelled.targets.tolist() == [target for _, target in expected]
    cfg.data.no_labels = True
    without: Any = pretrain_dataset(cfg, pil_to_tensor)
    assert list(without.images.paths) == list(labelled.images.paths)
    assert {target for *_, target in without} == {-1}


def test_a_list_may_name_files_with_all_of_their_folders(images: Path) -> None:
    root = images / "train"
    for scan in ("one", "two"):
        shutil.copytree(root / "class1", root / "class0" / scan / "slices")
    cfg = config("custom", images)
    whole = pretrain_dataset(cfg, pil_to_tensor)
    listed = images / "list.txt"
    cfg.data.train_subset = str(listed)
    listed.write_text("two/slices/3.png\nclass0/one/slices/4.png\n")
    part = take_part(whole, cfg)
    assert [index for index, *_ in part] == [8 + 8 + 3, 8 + 4]
    listed.write_text("slices/3.png\n")
    with pytest.raises(ValueError, match=r"'slices/3.png' \(1 of 1 lines\) means 2 images"):
        take_part(whole, cfg)


@pytest.mark.parametrize("no_labels", [False, True])
@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_in_a_circle_is_refused(images: Path, target: str, no_labels: bool) -> None:
    root = images / "train"
    (root / "class1" / "again").symlink_to(target)
    cfg = config("custom", images, no_labels=no_labels)
    with pytest.raises(ValueError, match=r"data.train_path=.*class1/again.* is a link to"):
        pretrain_dataset(cfg, pil_to_tensor)


def test_a_circle_of_two_links_and_a_link_that_is_none(images: Path) -> None:
    root = images / "train"
    (root / "class1" / "elsewhere").symlink_to(images / "val" / "class1")
    cfg = config("custom", images)
    assert len(pretrain_dataset(cfg, pil_to_tensor)) == 8 * CLASSES + 8  # type: ignore[arg-type]
    (images / "val" / "class1" / "back").symlink_to(root / "class1")
    with pytest.raises(ValueError, match=r"class1/elsewhere/back.* is a link to"):
        pretrain_dataset(cfg, pil_to_tensor)
