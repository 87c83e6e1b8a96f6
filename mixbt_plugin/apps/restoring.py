"""A checkpoint as Lightning gets it: as a run of the present config would have written it."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.plugins import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import LRScheduler

from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.printing import say
from mixbt_plugin.checkpoints import read_checkpoint
from mixbt_plugin.settings import ConfigError

Content = dict[str, Any]


class Resumed(TorchCheckpointIO):
    """A checkpoint that a run goes on from: read once, and Lightning gets what was read.

    Lightning by itself would read the file again, and with what PyTorch's version takes for safe.

    Args:
        path: of the checkpoint.
        accumulated: batches of a step of the optimiser.

    Attributes:
        first_epoch: the epoch that training goes on with.
        first_batch: the batch of it, 0 unless the training was stopped within an epoch.
        steps: steps of the optimiser that were done.
        wandb_id: W&B's run that it was logged in, by the config beside it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of a training.
    """

    def __init__(self, path: Path, accumulated: int = 1) -> None:
        self.path = path
        content = read_checkpoint(path)
        if "epoch" not in content:
            raise ConfigError(f"{path}: holds no 'epoch'; weights alone cannot be resumed.")
        self.first_epoch, batches = _position(content)
        # Those whose gradients were not yet taken are gone through again.
        self.first_batch = batches // accumulated * accumulated
        self.steps = int(content.get("global_step", 0))
        self.wandb_id = _wandb_id(path)
        self._timer: dict[str, Any] = content.get("callbacks", {}).get("Timer", {})
        self._content: Content | None = content

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> Content:
        """The content, which is not kept afterwards, or that of another path."""
        content, self._content = self._content, None
        return read_checkpoint(path) if content is None or Path(path) != self.path else content

    def nothing_to_do(self, cfg: DictConfig) -> str | None:
        """Why a run of this config has no step left to take, if so."""
        if self.first_epoch >= cfg.max_epochs >= 0:
            return f"{self.first_epoch} epochs are done, and max_epochs={cfg.max_epochs}"
        max_steps = cfg.max_steps
        if max_steps is not None and self.steps >= max_steps >= 0:
            return f"{self.steps} steps are done, and max_steps={max_steps}"
        max_time = cfg.max_time
        if max_time is not None:
            timer = Timer(max_time if isinstance(max_time, str) else dict(max_time))
            timer.load_state_dict(self._timer)
            if (timer.time_remaining() or 0) <= 0:
                return f"{timer.time_elapsed():.0f} seconds are spent, and {max_time=}"
        return None


def _wandb_id(checkpoint: Path) -> str | None:
    if not (checkpoint.parent / CONFIG_FILE).is_file():
        return None
    cfg = load_config(checkpoint)
    # solo-learn keeps it as wandb_run_id.
    return OmegaConf.select(cfg, "wandb.id") or cfg.get("wandb_run_id")


def _position(content: Content) -> tuple[int, int]:
    """Epoch and batch to go on with; Lightning's counters say it in several ways."""
    loop = content.get("loops", {}).get("fit_loop")
    if loop is None:
        return int(content["epoch"]) + 1, 0
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    if batches["is_last_batch"]:
        return epochs["processed"], 0
    return epochs["started"] - 1, batches["current"]["processed"]


class FollowThisConfig(Callback):
    """Hands a checkpoint to Lightning as an uninterrupted run of this config would have written it.

    Weights and the optimiser's state are the checkpoint's. Learning rates, weight decay and all
    other numbers of the optimiser are those of this config, at the step that its run would have
    reached by then; Lightning alone would restore the old ones, and the old schedule with them.
    The schedule is gone through from its beginning, since solo-learn's has each rate from the one
    before. ``reduce``, which depends on losses, stays as it was.

    Args:
        resumed: the checkpoint.
    """

    def __init__(self, resumed: Resumed) -> None:
        self.resumed = resumed
        self._checkpoint: Content = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: Content) -> None:
        """Keeps the checkpoint until optimiser and schedule are there."""
        self._checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Rewrites the checkpoint, from which Lightning then restores."""
        checkpoint, self._checkpoint = self._checkpoint, {}
        if "loops" not in checkpoint:
            return
        steps = self._steps(trainer)
        self._set_counters(checkpoint, steps)
        _advance_schedules(trainer, steps, self.resumed.first_epoch)
        configs = trainer.lr_scheduler_configs
        for optimizer, saved in zip(trainer.optimizers, checkpoint["optimizer_states"]):
            groups = optimizer.state_dict()["param_groups"]
            if any(config.reduce_on_plateau for config in configs):
                for group, before in zip(groups, saved["param_groups"]):
                    group["lr"] = before["lr"]
            saved["param_groups"] = groups
        old = [*checkpoint["lr_schedulers"], *([None] * len(configs))]
        checkpoint["lr_schedulers"] = [
            before if config.reduce_on_plateau else config.scheduler.state_dict()
            for config, before in zip(configs, old)
        ]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begins an epoch: with ``max_steps`` Lightning would end the last one once more."""
        loop: Any = trainer.fit_loop
        if not self.resumed.first_batch:
            loop._restarting = loop.epoch_loop.restarting = False

    def _steps(self, trainer: Trainer) -> int:
        """Steps that a run of this config takes until there."""
        if self.resumed.first_batch:
            return self.resumed.steps
        # Asked for first, it makes Lightning count the batches.
        if not math.isfinite(trainer.estimated_stepping_batches):
            return self.resumed.steps
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        steps = self.resumed.first_epoch * per_epoch
        if steps != self.resumed.steps:
            epochs = f"{self.resumed.first_epoch} epochs"
            say("resume", f"steps in {epochs}: {self.resumed.steps} until there, {steps} here")
        return steps

    def _set_counters(self, checkpoint: Content, steps: int) -> None:
        checkpoint["global_step"] = steps
        loop = checkpoint["loops"]["fit_loop"]
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
        optimizer = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        optimizer["step"]["total"].update(ready=steps, completed=steps)

        done, begun = self.resumed.first_epoch, int(self.resumed.first_batch > 0)
        for count in loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]:
            count.update(ready=done + begun, started=done + begun, processed=done, completed=done)
        batches = loop["epoch_loop.batch_progress"]
        repeated = batches["current"]["processed"] - self.resumed.first_batch if begun else 0
        for count in batches["total"], batches["current"]:
            done = count["processed"] - repeated
            count.update(ready=done, started=done, processed=done, completed=done)


def _advance_schedules(trainer: Trainer, steps: int, epochs: int) -> None:
    with warnings.catch_warnings():
        # The optimiser has not taken the steps that the schedule is advanced by.
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LRScheduler) and not config.reduce_on_plateau:
                for _ in range(steps if config.interval == "step" else epochs):
                    config.scheduler.step()
