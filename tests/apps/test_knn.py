"""``mixbt-knn``, in this process: what its rows say of the numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from mixbt_plugin.apps.knn import task
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of

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
    }
    assert row.items() >= expected.items()
    assert len(files_read) == 1
    assert 20 < float(row["acc1"]) <= float(row["acc5"]) <= 100


def test_another_data_set_has_a_table_of_its_own(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tmp_path, BACKBONE, "mnist5k", augmentations=[{"crop_size": 16}])
    words = (f"pretrained_checkpoint={checkpoint}", "data.dataset=photo_patches")
    task(composed("knn/mix-bt.yaml", *words))
    (row,) = rows(tmp_path / "knn-photo_patches.csv")
    assert row["dataset"] == "photo_patches"
    assert not (tmp_path / "knn.csv").exists()
