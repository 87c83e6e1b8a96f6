"""``mixbt-knn``, in this process: what its rows say of the numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin.apps.knn import knn, task
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
