"""Whole training steps, in turns: ``python -m benchmarks.step``.

A step is forwards of all views, loss, online classifier, logging, backward and optimiser, in
Lightning's own loop on real images; with the loader it is the time from the end of one step to the
end of the next, the images being augmented in the same process. ``--methods`` are compared with
the first of them; the methods of more views among them with themselves at two views.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from benchmarks.interleaved import machine, ratio, table
from mixbt_plugin.apps import loaders, training
from mixbt_plugin.apps.command import config_root
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.data import pretrain_dataset, pretrain_transform
from mixbt_plugin.host import HOST, METHODS, parse_pretrain_cfg

WARM_UP = 2
"""Steps at the beginning of a turn that are not counted."""


class Turn(NamedTuple):
    """Median seconds of a turn's steps, without and with the loader."""

    step: float
    with_loader: float


class StepTimer(Callback):
    """Times the steps of a training."""

    def __init__(self) -> None:
        self.steps: list[Turn] = []
        self.started = self.ended = 0.0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the clock when the batch is there."""
        self.started = _now(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stops it when the weights have changed."""
        now = _now(trainer)
        self.steps.append(Turn(now - self.started, now - self.ended))
        self.ended = now

    def medians(self) -> Turn:
        """Of the steps that count."""
        return Turn(*map(median, zip(*self.steps[WARM_UP:])))


def _now(trainer: Trainer) -> float:
    device = trainer.strategy.root_device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


class Setting(NamedTuple):
    """How the same arithmetic is run."""

    precision: str
    layout: str
    run: str


def config(
    method: str, views: int, dimension: int, setting: Setting, args: argparse.Namespace
) -> DictConfig:
    """The shipped config of photo_patches with another backbone, dimension and precision."""
    hidden = args.hidden or dimension
    overrides = [
        f"method_kwargs.proj_hidden_dim={hidden}",
        f"method_kwargs.proj_output_dim={dimension}",
        f"backbone.name={args.backbone}",
        f"optimizer.batch_size={args.batch}",
        f"precision={setting.precision}",
        f"accelerator={args.accelerator}",
        f"performance.disable_channel_last={str(setting.layout == 'contiguous').lower()}",
        f"performance.compile={str(setting.run == 'compiled').lower()}",
        "knn_eval.enabled=false",
        "data.color=true",
        "data.num_workers=0",
    ]
    if method.startswith("multiaug"):
        two, more = "augmentations=['${view}']", f"further_views.num_crops={views - 2}"
        overrides.append(two if views == 2 else more)
    folder = config_root() / "pretrain" / "photo_patches"
    with initialize_config_dir(str(folder), version_base="1.2"):
        cfg = compose(method, overrides=overrides)
    with redirect_stdout(StringIO()):  # the whole config
        training.prepare(cfg, check_pretraining)
    cfg.run = setting.run
    return parse_pretrain_cfg(cfg)


def take_turn(cfg: DictConfig, images: Any, steps: int) -> Turn:
    """Trains some steps from the beginning."""
    torch.manual_seed(cfg.seed)
    model = training.set_up(METHODS[cfg.method](cfg), cfg)
    if cfg.run == "whole":
        model.training_step = torch.compile(model.training_step)
    timer = StepTimer()
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=WARM_UP + steps,
        accelerator=cfg.accelerator,
        devices=1,
        precision=cfg.precision,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loaders.train_loader(images, cfg, trainer))
    return timer.medians()


def measure(configs: Mapping[str, DictConfig], rounds: int, steps: int) -> dict[str, list[Turn]]:
    """Turns of all configs, one after the other, round after round."""
    images = {n: pretrain_dataset(cfg, pretrain_transform(cfg)) for n, cfg in configs.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in configs}
    for _ in range(rounds):
        for name, cfg in configs.items():
            turns[name].append(take_turn(cfg, images[name], steps))
    return turns


def rows(turns: Mapping[str, list[Turn]], baselines: Mapping[str, str]) -> Iterable[list[str]]:
    """For each config its times, and what they are to those of its baseline, round by round."""
    for name, ours in turns.items():
        row = [name]
        for of_ours, of_baseline in zip(zip(*ours), zip(*turns[baselines[name]])):
            row += [f"{1000 * median(of_ours):.0f}", f"{ratio(of_ours, of_baseline):.2f}"]
        yield [*row, baselines[name]]


def main() -> None:
    """Prints a table for each dimension."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["barlow_twins", "mixbt", "hsic_ssl"])
    parser.add_argument("--views", nargs="+", type=int, default=[], help="of the multiaug methods")
    parser.add_argument("--dimensions", nargs="+", type=int, default=[1024])
    parser.add_argument("--hidden", type=int, help="width of the projector; the dimension")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precisions", nargs="+", default=["bf16-mixed"])
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument(
        "--layouts", nargs="+", default=["channels_last"], choices=["channels_last", "contiguous"]
    )
    parser.add_argument(
        "--run",
        nargs="+",
        default=["eager"],
        choices=["eager", "compiled", "whole"],
        help="compiled: performance.compile; whole: torch.compile of the whole training step",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    for name in ("lightning.pytorch", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")

    print(machine("torchvision", "lightning", "timm"))
    settings = [Setting(*each) for each in product(args.precisions, args.layouts, args.run)]
    print(f"host {HOST}")
    print(f"{args.backbone}, batch {args.batch}, 32 px, {', '.join(settings[0])}")
    for dimension in args.dimensions:
        configs: dict[str, DictConfig] = {}
        baselines = {}
        for method, setting in product(args.methods, settings):
            for views in args.views if method.startswith("multiaug") else [2]:
                shown = setting if len(settings) > 1 else ()
                name = ", ".join([method, f"{views} views", *shown])
                configs[name] = config(method, views, dimension, setting, args)
                first = ", ".join([method, "2 views", *shown])
                baselines[name] = first if views != 2 else next(iter(configs))
        turns = measure(configs, args.rounds, args.steps)
        print(f"\nD = {dimension}, projector {args.hidden or dimension} wide\n")
        header = ["method", "ms a step", "ratio", "with loader", "ratio", "to"]
        print(table(header, rows(turns, baselines)))


if __name__ == "__main__":
    main()
