"""``mixbt-diagnose``: which images it takes, what its table says and keeps, its picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mixbt_plugin.apps.diagnose import diagnose, task
from mixbt_plugin.apps.pictures import draw_spectra
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of
from tests.images import image_folder

BACKBONE = {"name": "narrow_resnet10", "kwargs": {"width": 8}}
VIEWS = OmegaConf.to_container(composed("pretrain/mnist5k/mixbt.yaml").augmentations, resolve=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` and ``val`` of six classes, four images each."""
    return image_folder(tmp_path_factory.mktemp("photos"), per_class=4)


@pytest.fixture
def checkpoint(tmp_path: Path, photos: Path) -> Path:
    return checkpoint_of(
        *(tmp_path / "run", BACKBONE),
        augmentations=VIEWS,
        data__train_path=str(photos / "train"),
        data__val_path=str(photos / "val"),
    )


def asked(checkpoint: Path, *more: str) -> tuple[str, ...]:
    return (f"pretrained_checkpoint={checkpoint}", "accelerator=cpu", *more)


def test_the_table_says_what_was_measured_and_keeps_other_images(
    checkpoint: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"images={photos / 'train'}"
    for more in (("count=10",), ("count=10",), (folder,), ("backbone.name=narrow_resnet10",)):
        official = ("+backbone.kwargs.width=8", "data.dataset=custom") * ("backbone" in more[0])
        paths = (f"data.train_path={photos / 'train'}", f"data.val_path={photos / 'val'}")
        others = (*official, *(paths * bool(official)), "picture=false")
        task(composed("diagnose/default.yaml", *asked(checkpoint, *more, *others)))
    printed = capsys.readouterr().out
    assert "10 images of custom (validation), 2 views of each" in printed
    assert f"24 images of {photos / 'train'} (all), 2 views of each" in printed
    assert "24 images of custom (validation), not augmented" in printed
    rows = list(csv.DictReader((checkpoint.parent / "diagnostics.csv").open()))
    found = [(row["of"], float(row["images"]), row["views"], bool(row["lidar"])) for row in rows]
    assert found == [
        *(("features", 10, "2", True), ("embeddings", 10, "2", True)),
        *(("features", 24, "2", True), ("embeddings", 24, "2", True)),
        ("features", 24, "1", False),
    ]


def test_training_images_are_named_so_where_there_are_no_others(
    tmp_path: Path, photos: Path
) -> None:
    train = str(photos / "train")
    path = checkpoint_of(tmp_path / "run", BACKBONE, augmentations=VIEWS, data__train_path=train)
    rows = diagnose(composed("diagnose/default.yaml", *asked(path, "picture=false")))
    assert {(row["split"], row["images"]) for row in rows} == {("training", 24)}


def measured(checkpoint: Path, *more: str) -> list[dict[str, Any]]:
    return diagnose(composed("diagnose/default.yaml", *asked(checkpoint, "picture=false", *more)))


def test_images_are_normalised_as_in_pretraining_whatever_they_are_of(
    tmp_path: Path, photos: Path
) -> None:
    """Not by the statistics of a data set that is named for other reasons."""
    path = checkpoint_of(tmp_path / "digits", BACKBONE, "mnist5k", augmentations=VIEWS)
    folder = f"images={photos / 'train'}"
    assert measured(path, folder, "data.dataset=cifar10") == [
        {**row, "dataset": str(photos / "train")} for row in measured(path, folder)
    ]


def test_broken_images_are_skipped_when_asked(tmp_path: Path, checkpoint: Path) -> None:
    broken = image_folder(tmp_path / "photos", per_class=2) / "val"
    (broken / "class1" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="class1/0.png"):
        measured(checkpoint, f"images={broken}")
    assert measured(checkpoint, f"images={broken}", "+data.unreadable=skip")[0]["images"] == 12


def test_one_image_is_too_few(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "0.png")
    with pytest.raises(ConfigError, match="images=.*one: .* at least two images"):
        measured(checkpoint, f"images={tmp_path / 'one'}")


def test_the_numbers_are_printed_when_they_cannot_be_written(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint.parent / "diagnostics.csv.partial").mkdir()
    with pytest.raises(OSError, match="diagnostics.csv.partial"):
        measured(checkpoint)
    assert "rank_me" in capsys.readouterr().out


def test_the_picture_is_drawn(checkpoint: Path) -> None:
    diagnose(composed("diagnose/default.yaml", *asked(checkpoint)))
    assert min(Image.open(checkpoint.parent / "diagnostics-untrained-ep4.png").size) > 300


@pytest.mark.filterwarnings("error")
def test_collapsed_features_are_drawn_too(tmp_path: Path) -> None:
    z = torch.randn(40, 3)
    for features in (torch.ones(40, 3), z, torch.cat([z, torch.ones(40, 1)], dim=1)):
        draw_spectra({"features": features}, "title", tmp_path / "x.png")


@pytest.mark.parametrize(
    "more,message",
    [
        (("data.augmentations.crop_size=8",), "data.augmentations.crop_size=8: images are in the"),
        (("images=/photos", "data.val_path=/x"), "images='/photos' with data.val_path: expected a"),
        (("images=nowhere",), "images='nowhere': no such folder"),
        (("count=1",), "count=1: expected a whole number of at least 2"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], message: str, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        diagnose(composed("diagnose/default.yaml", *asked(checkpoint, *more)))
