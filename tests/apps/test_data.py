"""Data sets of the user's own, as the commands read them on either host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.apps.training import prepare
from mixbt_plugin.host import parse_pretrain_cfg
from tests.apps.composing import composed
from tests.data_sets.test_folders import h5_file
from tests.images import CLASSES, image_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders, one that Jupyter left behind, and both splits as H5 files."""
    root = image_folder(tmp_path_factory.mktemp("images"))
    for split in ("train", "val"):
        h5_file(root / split, root / f"{split}.h5")
        (root / split / ".ipynb_checkpoints").mkdir()
    return root


def config(config: str, images: Path, suffix: str, *overrides: str) -> DictConfig:
    return composed(
        config,
        *("data.dataset=custom", f"data.train_path={images}/train{suffix}"),
        *(f"data.val_path={images}/val{suffix}", "data.num_workers=0", "optimizer.batch_size=16"),
        *("backbone.name=narrow_resnet10", "max_epochs=1", "precision=32"),
        *("accelerator=cpu", "checkpoint.dir=models", *overrides),
    )


@pytest.mark.parametrize(
    "suffix,overrides,classes",
    [
        ("", [], CLASSES),
        (".h5", ["data.format=h5"], CLASSES),
        ("", ["data.val_path=null", "data.no_labels=true"], 1),
        (".h5", ["data.format=h5", "data.val_path=null", "data.no_labels=true"], 1),
    ],
)
def test_the_classes_are_counted_as_they_are_read(
    suffix: str, overrides: list[str], classes: int, images: Path
) -> None:
    cfg = config("pretrain/cifar/mixbt.yaml", images, suffix, *overrides)
    prepare(cfg, check_pretraining)
    assert parse_pretrain_cfg(cfg).data.num_classes == classes


def test_pretraining_and_linear_evaluation_on_h5_files_of_the_users_own(images: Path) -> None:
    width = "+backbone.kwargs.width=8"
    folder = pretrain(config("pretrain/cifar/mixbt.yaml", images, ".h5", "data.format=h5", width))
    (checkpoint,) = folder.glob("*.ckpt")
    weights: Any = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert weights["classifier.weight"].shape[0] == CLASSES
    assert "val_acc1" in (folder / "metrics.csv").read_text()
    evaluated = linear(
        config(
            "linear/custom.yaml",
            images,
            ".h5",
            *("data.format=h5", f"pretrained_feature_extractor='{checkpoint}'"),
            *(width, "data.augmentations.crop_size=32"),
        )
    )
    assert "val_acc1" in (evaluated / "metrics.csv").read_text()
