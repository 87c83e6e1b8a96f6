"""Measures held-out images while a method trains: features without labels, terms of the loss."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mixbt_plugin.apps.checkpointer import CONFIG_FILE
from mixbt_plugin.apps.loaders import views_loader
from mixbt_plugin.apps.measuring import (
    Measures,
    evenly,
    has_validation_images,
    images_to_measure,
    left_as_it_is,
)
from mixbt_plugin.apps.validation import LEFT_OUT
from mixbt_plugin.checkpoints import PARTIAL, put_in_place
from mixbt_plugin.data import pretrain_transform
from mixbt_plugin.diagnostics import Measured, overfitting
from mixbt_plugin.settings import ConfigError

ACCURACY, RANK = "val_knn_acc1", "features_rank_me"
QUALITIES = (ACCURACY, f"{LEFT_OUT}acc1", RANK)
"""What says how good features are: the online kNN where there is one, else their rank."""
TOLERANCE = {ACCURACY: 1.0, f"{LEFT_OUT}acc1": 1.0, RANK: 0.05}
"""How far it may fall before it counts: in points of accuracy; as a share of the best rank."""
BEST = "best"
OF_THE_CLASSIFIER = ("train_class_loss", "train_acc1", "train_acc5")


class Watch(Callback):
    """Measures a fixed set of images every few epochs, and warns when features get worse.

    The images are validation images, or where there are none training images, in the views of
    pre-training with fixed seeds. Logged are, for ``features`` and ``embeddings``, the measures of
    `Diagnostics` as ``features_rank_me`` and so on, and the terms of the method's loss on these
    images, as ``held_out_<term>`` (``watched_<term>`` where they are training images) beside
    ``train_<term>``. Nothing of the training is changed: not the weights, nor batch-norm's
    statistics, nor what is drawn.

    Args:
        cfg: parsed; ``diagnostics.every_n_epochs``, ``diagnostics.images`` (rounded down to whole
            batches of all processes), ``diagnostics.keep_best``: keep the best epoch's checkpoint.

    Attributes:
        history: quality and loss of each epoch that was measured, of a resumed run too.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.asked = cfg.diagnostics
        self.history: list[Measured] = []
        self.quality = self.loss = ""
        self._warned = False
        self._loader: Any = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        return {"history": [list(one) for one in self.history], "warned": self._warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        self.history = [Measured(*one) for one in state_dict["history"]]
        self._warned = state_dict["warned"]

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Chooses the images.

        Raises:
            ConfigError: there are fewer than a batch for each process.
        """
        images = images_to_measure(self.cfg, pretrain_transform(self.cfg))
        self.prefix = "held_out" if has_validation_images(self.cfg) else "watched"
        batch, world = self.cfg.optimizer.batch_size, trainer.world_size
        count = min(self.asked.images, len(images)) // (batch * world) * (batch * world)
        if not count:
            raise ConfigError(
                f"diagnostics.images={self.asked.images}: expected at least a batch for each "
                f"process, {batch * world}; there are {len(images)} images to look at."
            )
        share = evenly(images, count, trainer.global_rank, world)
        self._loader = views_loader(share, self.cfg, batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measures, logs, and warns."""
        epoch = trainer.current_epoch + 1
        if epoch % self.asked.every_n_epochs and epoch != trainer.max_epochs:
            return
        measured = self._measure(trainer, pl_module)
        pl_module.log_dict(measured, sync_dist=False)
        self._remember(trainer, epoch, measured)

    @torch.no_grad()
    def _measure(self, trainer: Trainer, pl_module: Any) -> dict[str, Tensor]:
        measures = Measures(pl_module.device)
        terms: dict[str, list[Tensor]] = {}
        with left_as_it_is(pl_module):
            for batch_idx, (views, targets) in enumerate(self._loader):
                views = [
                    trainer.precision_plugin.convert_input(view.to(pl_module.device))
                    for view in views
                ]
                targets = torch.as_tensor(targets, device=pl_module.device)
                if self.cfg.data.no_labels:  # the classifier knows no classes, these images may
                    targets = torch.full_like(targets, -1)
                with trainer.precision_plugin.forward_context():
                    pl_module.eval()
                    outputs = [pl_module(view) for view in views]
                    # A step moves batch-norm's statistics, which the next batch's features are of.
                    with left_as_it_is(pl_module):
                        pl_module.train()
                        logged = _terms(pl_module, [targets, views, targets], batch_idx)
                measures.update(outputs)
                for name, value in logged.items():
                    terms.setdefault(name, []).append(value.float())
        measured = {
            f"{kind}_{name}": value.float()
            for kind, found in measures.compute().items()
            for name, value in found.items()
        }
        # A method logs its whole loss first.
        self.loss = next(iter(terms))
        for name, values in terms.items():
            mean = trainer.strategy.reduce(torch.stack(values).mean(), reduce_op="mean")
            measured[f"{self.prefix}_{name.removeprefix('train_')}"] = mean
        return measured

    def _remember(self, trainer: Trainer, epoch: int, measured: dict[str, Tensor]) -> None:
        found = {**trainer.callback_metrics, **measured}
        quality = next(name for name in QUALITIES if name in found)
        if quality != self.quality:
            # Accuracies and ranks are not compared with each other.
            self.history = [] if self.quality else self.history
            self.quality = quality
        now = Measured(epoch, float(found[quality]), float(found[f"{self.loss}_epoch"]))
        best_before = max((one.quality for one in self.history), default=-math.inf)
        self.history.append(now)
        if self.asked.keep_best and now.quality > best_before:
            self._keep(trainer, epoch)
        self._warn()

    def _warn(self) -> None:
        found = self.overfitting()
        if found and not self._warned:
            self._warned = True
            rank_zero_warn(self.sentence())

    def overfitting(self) -> Any:
        """What `mixbt_plugin.diagnostics.overfitting` finds in the history, or None."""
        best = max((one.quality for one in self.history), default=0.0)
        tolerance = TOLERANCE[self.quality or RANK] * (best if self.quality == RANK else 1.0)
        return overfitting(self.history, tolerance=tolerance)

    def sentence(self) -> str:
        """The warning, or an empty text."""
        found = self.overfitting()
        if not found:
            return ""
        what = "RankMe of the features" if self.quality == RANK else "online kNN"
        return (
            f"overfitting: {what} was best after epoch {found.best_epoch} ({found.best:.2f}) and "
            f"is {found.fallen:.2f} lower now, while the loss fell by {found.loss_fallen:.3g}."
        )

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Says it once more where the training ends."""
        if trainer.is_global_zero and (said := self.sentence()):
            print(said)

    def _keep(self, trainer: Trainer, epoch: int) -> None:
        """Saves the epoch in a folder of its own, which no resuming looks into."""
        folder = Path(trainer.log_dir or ".") / BEST
        path = folder / f"{self.cfg.name}-ep{epoch - 1}.ckpt"
        partial = path.with_name(path.name + PARTIAL)
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            config = json.dumps(OmegaConf.to_container(self.cfg, resolve=True), indent=2)
            (folder / CONFIG_FILE).write_text(config)
            for older in folder.glob("*.ckpt"):
                older.unlink()
            put_in_place(partial, path)


def _terms(module: Any, batch: list[Any], batch_idx: int) -> dict[str, Tensor]:
    """What a training step logs of its loss, which is logged nowhere."""
    logged: dict[str, Tensor] = {}

    def log(name: str, value: Any, *_: Any, **__: Any) -> None:
        logged[name] = torch.as_tensor(value).detach()

    def log_dict(values: dict[str, Any], *_: Any, **__: Any) -> None:
        for name, value in values.items():
            log(name, value)

    # Of the object alone: the class's own methods are back once these are gone.
    vars(module).update(log=log, log_dict=log_dict)
    try:
        module.training_step(batch, batch_idx)
    finally:
        del vars(module)["log"], vars(module)["log_dict"]
    return {name: value for name, value in logged.items() if name not in OF_THE_CLASSIFIER}
