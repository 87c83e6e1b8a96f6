"""``mixbt-knn``, in this process: what its rows say of the numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin.apps import knn as knn_command
from mixbt_plugin.apps.knn import knn, task
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of
from tests.images import image_folder

AT_8_PIXELS = [{"crop_size": 8}]
BACKBONE = {"name": "narrow_resnet10", "kwargs": {"width": 8}}


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


@pytest.mark.parametrize("epoch,which", [(4, "last"), (1, "intermediate")])
def test_rows_say_which_epoch_and_split(
    epoch: int,
    which: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files_read: list[dict[str, Any]],
) -> None:
    checkpoint = checkpoint_of(
        tmp_path, BACKBONE, "mnist5k", epoch, augmentations=[{"crop_size": 16}]
    )
    task(composed("knn/mix-bt.yaml", f"pretrained_checkpoint={checkpoint}"))
    printed = capsys.readouterr().out
    assert f"kNN, offline, {which} epoch ({epoch + 1} of 5), test split of mnist5k" in printed
    assert "input     16 x 16 px, mean 0.1 0.1 0.1, std 0.275 0.275 0.275: pre-train" in printed
    (row,) = rows(tmp_path / "knn.csv")
    expected = {
        "evaluation": "kNN",
        "mode": "offline",
        "dataset": "mnist5k",
        "split": "test",
        "which": which,
        "features": "backbone",
        "distance": "cosine",
        "k": "200",
        "temperature": "0.5",
        "crop_size": "16",
        "mean": "[0.1, 0.1, 0.1]",
        "std": "[0.275, 0.275, 0.275]",
        "images_as": "pre-training (args.json)",
    }
    assert row.items() >= expected.items()
    assert len(files_read) == 1
    assert 20 < float(row["acc1"]) <= float(row["acc5"]) <= 100


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of other images each."""
    root = tmp_path_factory.mktemp("images")
    return image_folder(root / "one", per_class=2), image_folder(root / "other", per_class=3)


def words(checkpoint: Path, folder: Path, *more: str) -> list[str]:
    return [
        *(f"pretrained_checkpoint={checkpoint}", "k=[1,2]", "data.dataset=custom"),
        *(f"data.train_path={folder / 'train'}", f"data.val_path={folder / 'val'}", *more),
    ]


def test_the_table_keeps_the_rows_of_other_sizes_and_folders(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    first, last = (
        checkpoint_of(tmp_path / "run", BACKBONE, "cifar10", epoch, augmentations=AT_8_PIXELS)
        for epoch in (0, 4)
    )
    one, other = folders
    for asked in (
        words(first, one),
        words(last, one),
        words(last, one, "data.augmentations.crop_size=16"),
        words(last, one, "data.augmentations.mean=[0,0,0]"),
        words(last, other),
        # What is asked again takes the place of what was there.
        words(last, other, "data.augmentations.crop_size=8"),
        words(last, one, "k=[2]"),
    ):
        task(composed("knn/mix-bt.yaml", *asked))
    table = rows(tmp_path / "run" / "knn.csv")
    found = {
        (row["checkpoint"], row["crop_size"], row["mean"][:4], row["val_path"], row["k"])
        for row in table
    }
    assert len(found) == len(table) == 10
    assert all(row["acc5"] == row["acc1"] for row in table if row["k"] == "1")
    assert {row["images_as"].partition(" ")[0] for row in table} == {
        "pre-training",
        "crop_size",
        "crop_size,",
    }


def test_the_table_of_an_older_version_stays(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    checkpoint = checkpoint_of(tmp_path, BACKBONE, augmentations=AT_8_PIXELS)
    (tmp_path / "knn.csv").write_text("evaluation,k,acc1,acc5\nkNN,20,50.0,70.0\n")
    task(composed("knn/mix-bt.yaml", *words(checkpoint, folders[0])))
    before, *_ = table = rows(tmp_path / "knn.csv")
    assert len(table) == 3
    assert (before["acc1"], before["balanced_acc1"], before["crop_size"]) == ("50.0", "", "")


@pytest.mark.parametrize("labelled", [True, False])
def test_an_image_that_cannot_be_read_is_no_copy_of_another(
    labelled: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = image_folder(tmp_path / "photos", per_class=3)
    checkpoint = checkpoint_of(
        tmp_path / "run", BACKBONE, augmentations=AT_8_PIXELS, data__no_labels=not labelled
    )
    train = (f"data.train_path={photos / 'train'}",) if labelled else ()
    asked = [f"pretrained_checkpoint={checkpoint}", f"data.val_path={photos / 'val'}", *train]
    broken = photos / "val" / "class1" / "0.png"
    broken.write_bytes(b"no image")
    found = knn(composed("knn/mix-bt.yaml", *asked, "k=[1]", "+data.unreadable=skip"))
    assert "1 images, which cannot be read" in capsys.readouterr().out
    broken.unlink()
    scores = ("acc1", "acc5", "balanced_acc1")
    without = knn(composed("knn/mix-bt.yaml", *asked, "k=[1]"))
    assert [found[0][name] for name in scores] == [without[0][name] for name in scores]


def test_no_more_neighbours_are_said_than_there_are(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    checkpoint = checkpoint_of(tmp_path, BACKBONE, augmentations=AT_8_PIXELS)
    asked = words(checkpoint, folders[0], "k=[3,500,1000]")
    there = len(list((folders[0] / "train").glob("*/*.png")))
    assert [row["k"] for row in knn(composed("knn/mix-bt.yaml", *asked))] == [3, there]


def test_images_that_are_read_otherwise_have_rows_of_their_own(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(
        tmp_path, BACKBONE, "photo_patches", augmentations=AT_8_PIXELS, data__color=False
    )
    for more in ((), ("+data.color=true",)):
        task(composed("knn/mix-bt.yaml", f"pretrained_checkpoint={checkpoint}", *more))
    grey, coloured = rows(tmp_path / "knn.csv")
    assert (grey["read_as"], coloured["read_as"]) == ("", "color=True")


def test_a_projector_that_is_not_there_is_refused_before_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn_command, "extract_features", None)
    checkpoint = checkpoint_of(tmp_path, BACKBONE, "mnist5k", augmentations=AT_8_PIXELS)
    official = ("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8", "data.dataset=mnist5k")
    with pytest.raises(ValueError, match="feature_type='projector': there is no projector"):
        knn(composed("knn/default.yaml", f"pretrained_checkpoint={checkpoint}", *official))


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda cfg: cfg.pop("method"), "args.json beside it is of a linear evaluation"),
        (lambda cfg: cfg.update(method="byol9"), "pre-trained by 'byol9', which is not known here"),
        (lambda cfg: cfg.pop("data"), "args.json: is no config of this plugin"),
    ],
)
def test_a_config_that_does_not_tell_the_network_is_refused(
    tmp_path: Path, change: Any, message: str
) -> None:
    checkpoint = checkpoint_of(tmp_path, BACKBONE, "mnist5k", augmentations=AT_8_PIXELS)
    config = tmp_path / "args.json"
    cfg = json.loads(config.read_text())
    change(cfg)
    config.write_text(json.dumps(cfg))
    with pytest.raises(ConfigError, match=message):
        knn(composed("knn/default.yaml", f"pretrained_checkpoint={checkpoint}"))
    config.write_text(config.read_text()[:-9])
    with pytest.raises(ConfigError, match="args.json: is not written to its end"):
        knn(composed("knn/default.yaml", f"pretrained_checkpoint={checkpoint}"))


def test_validation_images_alone_are_left_out_in_turn(
    tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a pre-training without labels, until a folder of labelled training images is given."""
    one, _ = folders
    checkpoint = checkpoint_of(
        *(tmp_path / "run", BACKBONE),
        augmentations=AT_8_PIXELS,
        data__no_labels=True,
        data__train_path="a folder that is no longer there",
    )
    asked = [f"pretrained_checkpoint={checkpoint}", "k=[1]"]
    with pytest.raises(ValueError, match=r"data.val_path is missing"):
        knn(composed("knn/mix-bt.yaml", *asked))
    asked.append(f"data.val_path={one / 'val'}")
    task(composed("knn/mix-bt.yaml", *asked))
    task(composed("knn/mix-bt.yaml", *asked, f"data.train_path={one / 'train'}"))
    assert "kNN, leave-one-out, offline, last epoch (5 of 5), validation" in capsys.readouterr().out
    left_out, usual = rows(tmp_path / "run" / "knn.csv")
    assert (left_out["evaluation"], left_out["train_path"]) == ("kNN, leave-one-out", "")
    assert (usual["evaluation"], usual["train_path"]) == ("kNN", str(one / "train"))
    assert left_out["split"] == usual["split"] == "validation"


@pytest.mark.parametrize(
    "override,message",
    [
        ("data.dataset=nope", "data.dataset='nope' is not known: expected one of cifar10"),
        ("data.dataset=cifar11", "data.dataset='cifar11' is not known: did you mean 'cifar1"),
        ("data.train_path=nowhere", "data.train_path='nowhere': no such folder"),
        ("temperature=[nan]", r"temperature=\[nan\]: expected a list, each entry a number above 0"),
        (
            "temperature=[0.1,inf]",
            r"temperature=\[0.1, inf\]: expected a list, each entry a number above 0",
        ),
        ("data.augmentations.crop_size=0", "data.augmentations.crop_size=0: expected a positive"),
        ("data.augmentations.mean=[0.5]", r"data.augmentations.mean=\[0.5\]: expected three num"),
        ("data.augmentations.std=[0,0,0]", r"data.augmentations.std=\[0, 0, 0\]: expected three"),
        ("accelerator=gpu", "accelerator='gpu': there is no CUDA GPU here; expected 'cpu' or 'au"),
        ("accelerator=tpu", "accelerator='tpu': expected one of auto, gpu, cuda, cpu"),
        ("pretrain_method=byol", "pretrain_method='byol' without backbone.name: args.json beside"),
    ],
)
def test_refusals(
    override: str,
    message: str,
    tmp_path: Path,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checkpoint = checkpoint_of(tmp_path / "run", BACKBONE, augmentations=AT_8_PIXELS)
    with pytest.raises(ValueError, match=message):
        knn(composed("knn/mix-bt.yaml", *words(checkpoint, folders[0], override)))
