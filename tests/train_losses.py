"""Trains from given weights on fixed batches, on whichever host is active.

As a module it does so in a process of its own: ``python -m tests.train_losses IN OUT``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from tests.configs import loader
from tests.trainers import quiet_trainer


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.values.append(float(args[2]["loss"]))


def train(model: Any, precision: Any = "32-true", epochs: int = 5) -> list[float]:
    """Losses of each step over fixed batches: 4 an epoch."""
    losses = Losses()
    trainer = quiet_trainer(
        max_epochs=epochs,
        precision=precision,
        callbacks=[losses],
    )
    trainer.fit(model, loader())
    return losses.values


def train_from(cfg: dict[str, Any], state: dict[str, Any], precision: str) -> list[float]:
    """Builds the config's method on the active host, loads the weights, trains."""
    from mixbt_plugin.host import METHODS
    from mixbt_plugin.registry import register

    register()
    model = METHODS[cfg["method"]](OmegaConf.create(cfg))
    model.load_state_dict(state)
    return train(model, precision)


def train_elsewhere(
    cfg: dict[str, Any], state: dict[str, Any], precision: str, folder: Path, host: str
) -> list[float]:
    """`train_from` on another host, in another process."""
    torch.save({"cfg": cfg, "state": state, "precision": precision}, folder / "in.pt")
    subprocess.run(
        [sys.executable, "-m", "tests.train_losses", str(folder / "in.pt"), str(folder / "out.pt")],
        check=True,
        env={**os.environ, "MIXBT_HOST": host},
        capture_output=True,
    )
    losses: list[float] = torch.load(folder / "out.pt")
    return losses


if __name__ == "__main__":
    given = torch.load(sys.argv[1])
    torch.save(train_from(**given), sys.argv[2])
