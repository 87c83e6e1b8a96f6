"""Training, from a checkpoint or from the beginning, to its end or to what stops it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.resuming import Resumed
from mixbt_plugin.data import damaged_file_named


def fit(trainer: Trainer, model: Any, train: Any, validation: Any, resumed: Resumed | None) -> None:
    """Trains.

    Args:
        trainer: what trains.
        model: what is trained.
        train: batches, or a data module of solo-learn's, whose own validation images are not used.
        validation: batches, or None.
        resumed: the checkpoint to go on from.

    Raises:
        UnreadableImageError: an image file cannot be decoded; names it.
    """
    path = None
    if resumed is not None:
        path, trainer.strategy.checkpoint_io = resumed.path, resumed
    if not isinstance(train, LightningDataModule):
        trainer.fit(model, train, validation, ckpt_path=path)
        return
    if resumed is not None:
        say(
            "resume",
            "DALI begins anew with its order of images and its augmentations: this run will not "
            "be, bit for bit, the one that was not interrupted",
        )
    module: Any = train
    module.val_dataloader = lambda: validation or []
    with damaged_file_named(module):
        trainer.fit(model, datamodule=module, ckpt_path=path)
