"""How many images could not be read and were replaced."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from mixbt_plugin.data import count_replaced


class LogReplacedImages(Callback):
    """Logs how many images of an epoch could not be read and were replaced by others.

    As ``train_replaced_images``, on all processes together, and ``val_replaced_images``; where
    ``data.unreadable`` is ``skip``.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs those of the training images."""
        count = float(count_replaced(trainer.train_dataloader))
        pl_module.log("train_replaced_images", count, sync_dist=True, reduce_fx="sum")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs those of the validation images, which every process reads."""
        pl_module.log("val_replaced_images", float(count_replaced(trainer.val_dataloaders)))
