"""Image files that cannot be read: named, or replaced, counted, and the same on resume."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from mixbt_plugin.apps.knn import knn
from mixbt_plugin.apps.loaders import train_loader
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.data import (
    UnreadableImageError,
    count_replaced,
    evaluation_datasets,
    pretrain_dataset,
    take_fraction,
)
from tests.apps.composing import composed
from tests.images import image_folder

DAMAGED = "train/class0/1.png", "train/class2/6.png", "train/class2/7.png"
"""Not among the images that are looked at before training, every third."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """48 training images; the three files are empty, cut off and something else."""
    root = image_folder(tmp_path / "images")
    empty, cut, other = (root / name for name in DAMAGED)
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-200])
    other.write_text("<html>404</html>")
    return root


def config(images: Path, *overrides: str) -> DictConfig:
    return composed(
        "pretrain/cifar/mixbt.yaml",
        *("data.dataset=custom", f"data.train_path={images / 'train'}"),
        *(f"data.val_path={images / 'val'}", "data.num_workers=0", "optimizer.batch_size=16"),
        *("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8", "max_epochs=2"),
        *("precision=32", "accelerator=cpu", "checkpoint.dir=models", *overrides),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_training_stops_with_the_files_name_and_the_key(images: Path, workers: int) -> None:
    names = "|".join(re.escape(str(images / name)) for name in DAMAGED)
    with pytest.raises(UnreadableImageError, match=rf"(?s)({names}).*data.unreadable=skip puts"):
        pretrain(config(images, f"data.num_workers={workers}"))


def test_some_are_looked_at_before_training(images: Path) -> None:
    (images / "train" / "class3" / "0.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"1 of 16 images .*class3/0.png.*data.unreada"):
        pretrain(config(images))
    assert not Path("models").exists()
    pretrain(config(images, "data.unreadable=skip", "max_epochs=1"))


def test_nothing_readable(images: Path) -> None:
    for file in (images / "train").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UnreadableImageError, match="16 of 16 images"):
        pretrain(config(images, "data.unreadable=skip"))


@pytest.mark.slow
def test_skipped_ones_are_counted_in_the_log_and_by_knn(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "val" / "class0" / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped: .*class2/7.png: cannot be read as an image"):
        folder = pretrain(config(images, "data.unreadable=skip", "data.num_workers=0"))
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    for split, count in (("train", 3), ("val", 1)):
        logged = [row[f"{split}_replaced_images"] for row in rows]
        assert [float(value) for value in logged if value] == [count] * 2
    (checkpoint,) = folder.glob("*.ckpt")
    knn(composed("knn/default.yaml", f"pretrained_checkpoint='{checkpoint}'", "k=[1]"))
    assert re.findall(r"replaced  (\d+) images", capsys.readouterr().out) == ["3", "1"]


def batches(images: Path, workers: int, epochs: range) -> list[Any]:
    cfg = config(images, "data.unreadable=skip", f"data.num_workers={workers}")
    dataset = pretrain_dataset(cfg, lambda image: torch.from_numpy(np.array(image)))
    epoch = SimpleNamespace(processed=0)
    progress = SimpleNamespace(epoch_progress=SimpleNamespace(current=epoch))
    trainer: Any = SimpleNamespace(fit_loop=progress, global_rank=0, world_size=1)
    loader, seen = train_loader(dataset, cfg, trainer), []
    for epoch.processed in epochs:
        seen.append(list(loader))
        assert count_replaced(loader.dataset) == 3
    return seen


def test_the_same_images_on_resume_and_with_any_number_of_workers(images: Path) -> None:
    _, second = batches(images, 0, range(2))
    (resumed,) = batches(images, 2, range(1, 2))
    for ours, theirs in zip(second, resumed, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    indexes = sorted(torch.cat([index for index, *_ in second]).tolist())
    expected = [{1: 2, 22: 24, 23: 24}.get(n, n) for n in range(48)]
    assert indexes == expected


@pytest.mark.filterwarnings("ignore:skipped")
def test_a_fraction_is_replaced_from_itself(images: Path) -> None:
    cfg = config(images, "data.unreadable=skip", "data.fraction=0.5")
    train, _ = evaluation_datasets(cfg, str, str)
    part = take_fraction(train, 0.5)
    chosen = set(part.images.indices)
    assert chosen & {1, 22, 23}
    seen = [index for index, *_ in pretrain_dataset(cfg, str)]  # type: ignore[attr-defined]
    assert len(seen) == 24
    assert set(seen) == chosen - {1, 22, 23}
