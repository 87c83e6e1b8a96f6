"""Linear evaluation and fine-tuning: what the papers' protocols add to the host's model."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from mixbt_plugin.apps.linear import _loss_and_mixup
from mixbt_plugin.backbones.narrow_resnet import NarrowResNet10
from mixbt_plugin.data.sources import load_photo_patches
from mixbt_plugin.host.embedded.config import NUM_CLASSES, parse_linear_cfg
from mixbt_plugin.host.embedded.linear import LinearModel as StandIn
from mixbt_plugin.methods import LinearEvaluation
from tests.trainers import quiet_trainer

EPOCHS = 3
CLASSES = 15
PARSED = {"data__dataset": "cifar10", "backbone__name": "resnet18", "devices": [0]}
"""What a parser asks for beside `linear_config`."""


def linear_config(**changes: Any) -> DictConfig:
    """A config as the parsers leave it; ``a__b`` changes the key ``a.b``."""
    cfg = OmegaConf.create(
        {
            "max_epochs": EPOCHS,
            "data": {"num_classes": CLASSES},
            "optimizer": {"name": "sgd", "batch_size": 30, "lr": 0.1, "weight_decay": 0.0},
            "scheduler": {"name": "none"},
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


@pytest.fixture(scope="module")
def batches() -> DataLoader[Any]:
    images, targets = load_photo_patches("train", True)
    small = torch.from_numpy(images[:60, ::2, ::2]).permute(0, 3, 1, 2) / 255
    return DataLoader(TensorDataset(small, torch.from_numpy(targets[:60])), batch_size=30)


class Rates(Callback):
    """Each epoch's learning rates, those of the first step."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % 2 == 0:
            self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def fit(cfg: DictConfig, batches: DataLoader[Any]) -> tuple[Any, Any, list[list[float]]]:
    """The state before and after training, and the rates."""
    torch.manual_seed(0)
    model = LinearEvaluation(NarrowResNet10(width=8), cfg)
    before = copy.deepcopy(model.state_dict())
    rates = Rates()
    trainer = quiet_trainer(
        max_epochs=EPOCHS,
        callbacks=[rates],
    )
    trainer.fit(model, batches, batches)
    return before, model.state_dict(), rates.seen


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """What has changed: the classifier, and weights or statistics of the backbone."""
    names = [key for key in before if not torch.equal(before[key], after[key])]
    return {
        "classifier"
        if "backbone" not in name
        else "statistics"
        if "running" in name or "tracked" in name
        else "weights"
        for name in names
    }


@pytest.mark.parametrize(
    "settings,expected",
    [
        ({}, {"classifier"}),
        ({"backbone_batch_norm": "train"}, {"classifier", "statistics"}),
        ({"finetune": True}, {"classifier", "statistics", "weights"}),
        ({"finetune": True, "backbone_batch_norm": "eval"}, {"classifier", "weights"}),
    ],
)
def test_what_training_changes(
    settings: dict[str, Any], expected: set[str], batches: DataLoader[Any]
) -> None:
    before, after, _ = fit(linear_config(**settings), batches)
    assert changed(before, after) == expected


def test_train_mode_normalises_with_the_batch() -> None:
    model = LinearEvaluation(NarrowResNet10(width=8), linear_config(backbone_batch_norm="train"))
    images = torch.rand(8, 3, 16, 16)
    alone, of_two = model.train()(images)["feats"], model(images[:2])["feats"]
    assert not alone[:2].allclose(of_two, atol=1e-3)
    alone, of_two = model.eval()(images)["feats"], model(images[:2])["feats"]
    assert alone[:2].allclose(of_two, atol=1e-5)


@pytest.mark.parametrize(
    "scheduler,expected",
    [
        ({"name": "none"}, [0.1, 0.1, 0.1]),
        ({"name": "step", "lr_decay_steps": [1, 2]}, [0.1, 0.01, 0.001]),
        ({"name": "step", "lr_decay_steps": [2], "gamma": 0.2}, [0.1, 0.1, 0.02]),
        ({"name": "exponential", "min_lr": 1e-4}, [0.1, 0.01, 0.001]),
        ({"name": "cosine", "interval": "epoch"}, [0.1, 0.075, 0.025]),
        ({"name": "cosine", "interval": "step"}, [0.1, 0.075, 0.025]),
        ({"name": "warmup_cosine", "warmup_epochs": 0}, [0.1, 0.075, 0.025]),
        ({"name": "reduce"}, [0.1, 0.1, 0.1]),
    ],
)
def test_schedules(
    scheduler: dict[str, Any], expected: list[float], batches: DataLoader[Any]
) -> None:
    *_, rates = fit(linear_config(scheduler=scheduler), batches)
    assert [epoch[0] for epoch in rates] == pytest.approx(expected)


def test_reduce_lowers_the_rate_when_the_loss_stagnates() -> None:
    model = LinearEvaluation(NarrowResNet10(width=8), linear_config(scheduler__name="reduce"))
    configured = model.configure_optimizers()
    schedule = configured["lr_scheduler"]
    assert schedule["monitor"] == "val_loss"
    for _ in range(12):
        schedule["scheduler"].step(1.0)
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    "scheduler,factors",
    [
        ({"name": "cosine", "interval": "epoch"}, [1, 0.75, 0.25]),
        ({"name": "step", "lr_decay_steps": [2], "gamma": 0.2}, [1, 1, 0.2]),
        ({"name": "none"}, [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("exclude", [False, True])
def test_the_classifier_has_a_rate_of_its_own(
    scheduler: dict[str, Any], factors: list[float], exclude: bool, batches: DataLoader[Any]
) -> None:
    cfg = linear_config(
        finetune=True,
        scheduler=scheduler,
        optimizer__lr=0.005,
        optimizer__classifier_lr=0.5,
        optimizer__exclude_bias_n_norm_wd=exclude,
    )
    *_, rates = fit(cfg, batches)
    groups = [0.005, 0.005, 0.5, 0.5] if exclude else [0.005, 0.5]
    for epoch, factor in zip(rates, factors):
        assert epoch == pytest.approx([factor * rate for rate in groups])


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"scheduler__name": "cosin"}, "scheduler.name='cosin': expected one of"),
        ({"scheduler__name": "step"}, "scheduler.lr_decay_steps is missing"),
        ({"scheduler__name": "exponential"}, "scheduler.min_lr=0.0: .* above 0"),
        (
            {"backbone_batch_norm": "trian"},
            "backbone_batch_norm='trian': expected one of eval, train",
        ),
        ({"optimizer__classifier_lr": 1.0}, "optimizer.classifier_lr is for finetune=true"),
        (
            {
                "optimizer__classifier_lr": 1.0,
                "finetune": True,
                "scheduler__name": "warmup_cosine",
            },
            "optimizer.classifier_lr: scheduler.name=warmup_cosine",
        ),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearEvaluation(NarrowResNet10(width=8), linear_config(**changes))


@pytest.mark.solo_learn
@pytest.mark.parametrize(
    "mixing",
    [
        {},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1},
    ],
)
def test_a_step_is_solo_learns_on_either_host(
    mixing: dict[str, float], batches: DataLoader[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradient of mixed images; label smoothing alone has no effect in solo-learn."""
    theirs = import_module("solo.methods.linear").LinearModel
    monkeypatch.setitem(NUM_CLASSES, "cifar10", CLASSES)
    cfg = parse_linear_cfg(linear_config(pretrained_feature_extractor="x", **PARSED, **mixing))
    loss_func, _ = _loss_and_mixup(cfg)
    found = []
    for constructor in (theirs, StandIn, LinearEvaluation):
        torch.manual_seed(0)
        np.random.seed(0)
        _, mixup_func = _loss_and_mixup(cfg)
        network = NarrowResNet10(width=8)
        model: Any = constructor(network, cfg.copy(), loss_func=loss_func, mixup_func=mixup_func)
        model.log_dict = lambda *args, **kwargs: None
        losses = [model.train().training_step(next(iter(batches)), n) for n in range(4)]
        torch.stack(losses).sum().backward()
        gradient = model.classifier.weight.grad.flatten()
        found.append(torch.cat([torch.stack(losses).detach(), gradient]))
    for ours in found[1:]:
        torch.testing.assert_close(ours, found[0], rtol=1e-4, atol=1e-6)
