"""Training, from a checkpoint or from the beginning, to its end or to what stops it."""

from __future__ import annotations

import shlex
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mixbt_plugin.apps.checkpointer import last_checkpoint
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.restoring import Resumed
from mixbt_plugin.apps.slurm import Requeue
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
        SystemExit: stopped by SIGTERM or SIGINT; with 128 and the signal's number, as shells do.
    """
    path = None
    if resumed is not None:
        path, trainer.strategy.checkpoint_io = resumed.path, resumed
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    with ExitStack() as around:
        around.enter_context(_finished_wandb(trainer))
        around.enter_context(_told_how_to_go_on(trainer))
        around.enter_context(warnings.catch_warnings())
        # Our loaders go on within an epoch.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")
        # What the methods log is the same on every process by then.
        warnings.filterwarnings(
            "ignore", r"It is recommended to use `self\.log\('train_.*sync_dist"
        )
        for callback in callbacks:
            if isinstance(callback, Requeue):
                around.enter_context(callback.listening())
        if not isinstance(train, LightningDataModule):
            trainer.fit(model, train, validation, ckpt_path=path)
            return
        if resumed is not None:
            say(
                "resume",
                "DALI begins anew with its order of images and its augmentations: this run will "
                "not be, bit for bit, the one that was not interrupted",
            )
        module: Any = train
        module.val_dataloader = lambda: validation or []
        with damaged_file_named(module):
            trainer.fit(model, datamodule=module, ckpt_path=path)


@contextmanager
def _told_how_to_go_on(trainer: Trainer) -> Iterator[None]:
    """A training that a signal stops says what to type, and has the signal's exit status."""
    try:
        yield
        if trainer.interrupted:
            # Older versions of Lightning return from Ctrl+C, newer ones exit.
            raise SystemExit(1)
    except SystemExit as stop:
        number = signal.SIGTERM if isinstance(stop, SIGTERMException) else signal.SIGINT
        raise _stopped(trainer, number) from stop
    except Exception as error:
        # `timeout` and SLURM end the loader's processes too: what is then raised differs with what
        # they were doing, such as RuntimeError by PyTorch, or ConnectionResetError.
        if not trainer.received_sigterm:
            raise
        raise _stopped(trainer, signal.SIGTERM) from error


def _stopped(trainer: Trainer, number: signal.Signals) -> SystemExit:
    saved = last_checkpoint(trainer)
    say("stopped", f"by {number.name}, after {saved or 'no checkpoint yet'}")
    if saved:
        key = shlex.quote(f"resume_from_checkpoint={saved}")
        say("resume", f"by the same command with {key}")
    return SystemExit(128 + number)


@contextmanager
def _finished_wandb(trainer: Trainer) -> Iterator[None]:
    """A run of W&B ends with the training: the next job of a sweep would log into it."""
    status = 1
    try:
        yield
        status = 0
    finally:
        if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
            import wandb

            if wandb.run is not None:
                wandb.finish(exit_code=status)
