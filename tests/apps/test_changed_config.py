"""A run that is resumed with another config has that config's rates, as if it had always had it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch.utils.data import DataLoader, TensorDataset

from mixbt_plugin.apps.checkpointer import Checkpointer
from mixbt_plugin.apps.fitting import fit
from mixbt_plugin.apps.restoring import FollowThisConfig, Resumed
from mixbt_plugin.apps.resuming import checkpoint_to_resume
from mixbt_plugin.backbones.narrow_resnet import NarrowResNet10
from mixbt_plugin.host import METHODS
from mixbt_plugin.keys import PretrainConfig, complete
from mixbt_plugin.methods import LinearEvaluation
from mixbt_plugin.registry import register
from tests.configs import Batches, method_config
from tests.trainers import quiet_trainer

register()

IMAGES = 64
SHORT = {"max_epochs": 2, "checkpoint": {"frequency": 1, "keep_prev": True}}
STEP = {"scheduler__name": "step", "scheduler__lr_decay_steps": [1, 3]}
SCHEDULES: dict[str, list[dict[str, Any]]] = {
    "mixbt": [
        {"scheduler__name": "warmup_cosine"},
        {"scheduler__name": "warmup_cosine", "scheduler__interval": "epoch"},
        {"scheduler__name": "barlow_cosine"},
        STEP,
        {"scheduler__name": "none"},
    ],
    "linear": [
        {"scheduler__name": "warmup_cosine"},
        {"scheduler__name": "cosine"},
        {"scheduler__name": "exponential", "scheduler__min_lr": 1e-3},
        STEP,
    ],
}
LONGER: dict[str, Any] = {"max_epochs": 4}
CHANGED: dict[str, Any] = {
    **{**LONGER, "optimizer__batch_size": 16, "optimizer__lr": 0.3},
    **{"optimizer__weight_decay": 0.01, "optimizer__kwargs__momentum": 0.7},
    "scheduler__warmup_epochs": 2,
}


class Groups(Callback):
    """The numbers of the optimiser's groups at each step."""

    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        groups = trainer.optimizers[0].param_groups
        self.seen[trainer.global_step] = [
            {key: value for key, value in group.items() if key != "params"} for group in groups
        ]


def configured(kind: str, *changes: dict[str, Any]) -> DictConfig:
    together = {key: value for each in (SHORT, *changes) for key, value in each.items()}
    cfg = method_config("mixbt", **together)
    if kind == "linear":
        cfg.optimizer.classifier_lr = None
    else:
        METHODS[kind](cfg)  # which fills in the defaults of method_kwargs
        complete(cfg, PretrainConfig)
    return cfg


def train(
    kind: str,
    cfg: DictConfig,
    folder: Path,
    resumed: Resumed | None = None,
    *callbacks: Callback,
    **limits: Any,
) -> tuple[dict[int, Any], list[Path]]:
    """The groups at each step, and the checkpoints in the order that they were written."""
    torch.manual_seed(0)
    images: Any = Batches(IMAGES, (16, 16))
    model: Any
    if kind == "linear":
        model = LinearEvaluation(NarrowResNet10(width=8), cfg)
        images = TensorDataset(images.views[0], images.targets)
    else:
        model = METHODS[kind](cfg)
    groups, checkpointer = Groups(), Checkpointer(cfg)
    folder.mkdir(exist_ok=True)
    checkpointer._folder = lambda trainer: folder  # type: ignore[method-assign]
    trainer = quiet_trainer(
        **{"max_epochs": cfg.max_epochs, **limits},
        accumulate_grad_batches=cfg.get("accumulate_grad_batches") or 1,
        callbacks=[
            *callbacks,
            groups,
            checkpointer,
            *([FollowThisConfig(resumed)] if resumed else []),
        ],
    )
    fit(trainer, model, DataLoader(images, cfg.optimizer.batch_size), None, resumed)
    written = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return groups.seen, written


def assert_same_rates(
    kind: str, schedule: dict[str, Any], change: dict[str, Any], folder: Path
) -> None:
    _, checkpoints = train(kind, configured(kind, schedule), folder / "short")
    cfg = configured(kind, schedule, change)
    whole, _ = train(kind, cfg, folder / "whole")
    seen, _ = train(kind, cfg, folder / "resumed", Resumed(checkpoints[-1]))
    half = len(whole) // 2
    assert min(seen) == half
    assert seen == {step: groups for step, groups in whole.items() if step >= half}


@pytest.mark.parametrize(
    "kind,schedule", [(kind, each) for kind, schedules in SCHEDULES.items() for each in schedules]
)
def test_rates_are_those_of_an_uninterrupted_run(
    kind: str, schedule: dict[str, Any], tmp_path: Path
) -> None:
    assert_same_rates(kind, schedule, CHANGED, tmp_path)


@pytest.mark.parametrize("change", [LONGER, {**LONGER, "accumulate_grad_batches": 2}])
def test_rates_of_more_epochs_and_of_accumulated_batches(
    change: dict[str, Any], tmp_path: Path
) -> None:
    assert_same_rates("mixbt", SCHEDULES["mixbt"][0], change, tmp_path)


def test_changes_are_said_or_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, (first, *_) = train("mixbt", configured("mixbt"), tmp_path / "short")
    cfg = configured("mixbt", CHANGED)
    cfg.resume_from_checkpoint = str(first)
    checkpoint_to_resume(cfg, "mixbt")
    said = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        str(first),
        "max_epochs: 2 until there, 4 from there on",
        "optimizer.batch_size: 32 until there, 16 from there on",
        "optimizer.kwargs.momentum: 0.9 until there, 0.7 from there on",
        "optimizer.lr: 0.04 until there, 0.3 from there on",
        "optimizer.weight_decay: 0.0001 until there, 0.01 from there on",
        "scheduler.warmup_epochs: 1 until there, 2 from there on",
    ]
    for change, message in (
        ({"optimizer__name": "sgd"}, "optimizer.name=lars, this one optimizer.name=sgd"),
        ({"optimizer__bias_lr_ratio": 0.1}, "bias_lr_ratio=None, .* a group of their own"),
        ({"optimizer__exclude_bias_n_norm_wd": True}, "exclude_bias_n_norm_wd=False"),
        ({"scheduler__name": "reduce"}, "scheduler.name=reduce lowers the rate by the losses"),
    ):
        cfg = configured("mixbt", change)
        cfg.resume_from_checkpoint = str(first)
        with pytest.raises(ValueError, match=message):
            checkpoint_to_resume(cfg, "mixbt")


@pytest.mark.parametrize("limits", [{"max_steps": 3}, {"max_steps": 4}])
def test_max_steps_saves_its_end_and_goes_on_from_there(
    limits: dict[str, Any], tmp_path: Path
) -> None:
    """Two steps an epoch, the second of them saved by none but the end."""
    cfg = configured("mixbt", {"max_epochs": 4, "checkpoint__frequency": 3})
    cfg.scheduler.name = "none"
    _, (*_, last) = train("mixbt", cfg, tmp_path / "short", **limits)
    resumed = Resumed(last)
    assert resumed.steps == limits["max_steps"]
    assert (resumed.first_epoch, resumed.first_batch) == divmod(limits["max_steps"], 2)
    cfg.max_steps = limits["max_steps"]
    done = f"{limits['max_steps']} steps are done, and max_steps={limits['max_steps']}"
    assert resumed.nothing_to_do(cfg) == done
    seen, _ = train("mixbt", cfg, tmp_path / "resumed", Resumed(last), max_steps=8)
    assert sorted(seen) == list(range(limits["max_steps"], 8))


def test_a_change_of_the_batches_waits_for_the_end_of_an_epoch(tmp_path: Path) -> None:
    cfg = configured("mixbt")
    _, (*_, last) = train("mixbt", cfg, tmp_path / "short", max_steps=3)
    cfg.resume_from_checkpoint, cfg.optimizer.batch_size = str(last), 16
    with pytest.raises(ValueError, match="stopped within an epoch, after 1 batches"):
        checkpoint_to_resume(cfg, "mixbt")


class Interrupt(Callback):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt


def test_ctrl_c_ends_with_130_and_says_what_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train("mixbt", configured("mixbt"), tmp_path, None, Interrupt())
    assert stopped.value.code == 130
    (saved,) = tmp_path.glob("*.ckpt")
    said = capsys.readouterr().out
    assert f"stopped   by SIGINT, after {saved}" in said
    assert f"resume    by the same command with resume_from_checkpoint={saved}" in said


def test_max_time_saves_its_end(tmp_path: Path) -> None:
    cfg = configured("mixbt", {"max_epochs": 1000})
    _, (*_, last) = train("mixbt", cfg, tmp_path, max_time={"milliseconds": 200})
    cfg.max_time = {"milliseconds": 200}
    resumed = Resumed(last)
    assert resumed.steps == 2 * resumed.first_epoch + resumed.first_batch
    assert "seconds are spent" in str(resumed.nothing_to_do(cfg))
