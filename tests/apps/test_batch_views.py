"""``data.augment=batch`` in ``mixbt-pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin.apps import loaders
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.seeding import EpochSampler
from mixbt_plugin.checkpoints import read_checkpoint
from mixbt_plugin.data import as_tensor, batch_augmentation, pretrain_dataset
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed
from tests.trainers import quiet_trainer

SMALL = (
    *("data.augment=batch", "max_epochs=2", "limit_train_batches=2", "limit_val_batches=1"),
    *("optimizer.batch_size=32", "+backbone.kwargs.width=8", "precision=32"),
    *("accelerator=cpu", "checkpoint.keep_prev=true", "enable_progress_bar=false"),
    *("enable_model_summary=false", "data.fraction=0.05", "knn_eval.enabled=false"),
)


def train(*overrides: str, path: str = "pretrain/photo_patches/multiaug_barlow_twins.yaml") -> Path:
    return pretrain(composed(path, *SMALL, *overrides))


def weights(folder: Path, epoch: int = 1) -> dict[str, Any]:
    (checkpoint,) = folder.glob(f"*-ep{epoch}.ckpt")
    state: dict[str, Any] = read_checkpoint(checkpoint)["state_dict"]
    return state


def test_training_resumes_bit_for_bit_with_other_workers() -> None:
    whole = train("data.num_workers=0", "checkpoint.dir=whole")
    (first,) = whole.glob("*-ep0.ckpt")
    resumed = train(
        f"resume_from_checkpoint={first}", "data.num_workers=2", "checkpoint.dir=resumed"
    )
    ours, theirs = weights(whole), weights(resumed)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def test_views_on_the_device_train_the_same_simulated_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = weights(train("data.num_workers=1", "checkpoint.dir=loader"))
    monkeypatch.setattr(loaders, "on_accelerator", lambda device: True)
    ours = weights(train("data.num_workers=1", "checkpoint.dir=device"))
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.parametrize("augment", ["image", "batch"])
def test_both_ways_have_the_same_batches_of_images(augment: str) -> None:
    cfg = composed("pretrain/mnist5k/mixbt.yaml", f"data.augment={augment}")
    cfg.data.num_workers = 0
    trainer: Any = quiet_trainer()
    images = pretrain_dataset(cfg, as_tensor)
    augmentation = batch_augmentation(cfg) if augment == "batch" else None
    loader = loaders.train_loader(images, cfg, trainer, augmentation=augmentation)
    indexes, _, targets = next(iter(loader))
    order = list(EpochSampler(len(images), cfg.seed, lambda: 0))[: len(indexes)]  # type: ignore[arg-type]
    assert indexes.tolist() == [index for _, index in order]
    assert targets.tolist() == [images[index][2] for index in indexes.tolist()]
    assert len(loader) == 4000 // cfg.optimizer.batch_size


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"data.augment='gpu'.*image.*batch"):
        train("data.augment=gpu")


@pytest.mark.parametrize("key,value", [("interpolation", "bilinear"), ("after_color", True)])
def test_other_crops_than_solo_learns_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^view.rrc.{key}={value!r} with data.augment='batch'"):
        train(f"+view.rrc.{key}={value}", path="pretrain/mnist5k/mixbt.yaml")
