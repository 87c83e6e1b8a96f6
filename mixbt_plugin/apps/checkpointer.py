"""Checkpoints in solo-learn's layout: a folder with the weights and the config beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mixbt_plugin.checkpoints import PARTIAL, put_in_place, written_whole
from mixbt_plugin.settings import ConfigError, MissingFileError, RunError

CONFIG_FILE = "args.json"


class NotFiniteError(RunError, FloatingPointError):
    """NaN or infinity in what is trained."""


class UnwrittenCheckpointError(RunError, OSError):
    """A checkpoint that could not be written."""


class Checkpointer(Callback):
    """Saves ``<name>-ep<epoch>.ckpt`` and ``args.json`` in the trainer's ``log_dir``.

    A checkpoint is written under another name, flushed to the disk and renamed, so that a file
    with the suffix ``.ckpt`` is whole whenever the process or the machine stops. The checkpoint
    before it is removed only then. Weights and buffers that are not finite are never written.

    A training that ``max_steps`` or ``max_time`` ends within an epoch is saved there, as
    ``<name>-ep<epoch>-step<step>.ckpt``.

    Args:
        cfg: parsed; ``checkpoint.frequency`` is in epochs (the last is always saved), and
            ``checkpoint.keep_prev`` keeps earlier checkpoints.

    Attributes:
        last: the newest that this run has written.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.folder = Path()
        self.last: Path | None = None

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Writes the config."""
        self.folder = self._folder(trainer)
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            config = OmegaConf.to_container(self.cfg, resolve=True)
            with written_whole(self.folder / CONFIG_FILE) as file:
                file.write_text(json.dumps(config, indent=2))

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves the epoch, or what was trained of it when the training ends within it.

        Raises:
            NotFiniteError: the last update made a weight or a buffer NaN or infinite.
            UnwrittenCheckpointError: it could not be written; the one before it is still there.
        """
        if trainer.current_epoch % self.cfg.checkpoint.frequency == 0 or ends(trainer):
            # The first process writes, and the others stop with it.
            bad = trainer.strategy.broadcast(_not_finite(trainer.lightning_module))
            self._save(trainer, trainer.save_checkpoint, bad)

    def save_alone(self, trainer: Trainer) -> None:
        """Saves on this process, whatever step the others are at, unless it is saved already.

        Raises:
            NotFiniteError, UnwrittenCheckpointError: as above.
        """

        def write(path: Path, weights_only: bool) -> None:
            # What Trainer.save_checkpoint does, but for its barrier.
            content = trainer._checkpoint_connector.dump_checkpoint(weights_only)
            trainer.strategy.save_checkpoint(content, path)

        if self.last != self._path(trainer):
            self._save(trainer, write, _not_finite(trainer.lightning_module))

    def _path(self, trainer: Trainer) -> Path:
        epoch = f"{self.cfg.name}-ep{trainer.current_epoch}"
        whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        return self.folder / f"{epoch}{'' if whole else f'-step{trainer.global_step}'}.ckpt"

    def _save(self, trainer: Trainer, write: Callable[[Path, bool], None], bad: str | None) -> None:
        path = self._path(trainer)
        partial = path.with_name(path.name + PARTIAL)
        last = self.last_good(trainer)
        kept = f"the last good one is {last}" if last else "there is none before it"
        if bad is not None:
            raise NotFiniteError(
                f"{path} is not written: {bad} holds NaN or infinity after step "
                f"{trainer.global_step - 1} (epoch {trainer.current_epoch}); {kept}."
            )
        try:
            write(partial, False)
            if trainer.is_global_zero:
                put_in_place(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise UnwrittenCheckpointError(
                error.errno, f"{path} could not be written ({error.strerror}); {kept}"
            ) from error
        if self.last and self.last != path and not self.cfg.checkpoint.keep_prev:
            trainer.strategy.remove_checkpoint(self.last)
        self.last = path

    def last_good(self, trainer: Trainer) -> Path | None:
        """The checkpoint that was written last, or the one that the run was resumed from."""
        resumed = trainer.ckpt_path
        return self.last or (Path(resumed) if resumed else None)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Makes plain lists of those of a config, such as Adam's ``betas``, which load as data."""
        for optimizer in checkpoint.get("optimizer_states", []):
            for group in optimizer["param_groups"]:
                for key, value in group.items():
                    if OmegaConf.is_config(value):
                        group[key] = OmegaConf.to_container(value)

    @staticmethod
    def _folder(trainer: Trainer) -> Path:
        # Asked for on every process: Lightning sends it from the first to the others.
        return Path(trainer.log_dir or ".")


def _not_finite(module: nn.Module) -> str | None:
    """Name of the first parameter or buffer that holds NaN or infinity."""
    values = {name: x for name, x in module.state_dict().items() if x.is_floating_point()}
    finite = torch.stack([x.isfinite().all() for x in values.values()])
    # Read at once: each look would make the host wait for an accelerator.
    return next((name for name, fine in zip(values, finite.tolist()) if not fine), None)


def ends(trainer: Trainer) -> bool:
    """Whether the training ends with the step or the epoch that is being finished."""
    last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
    return last_epoch or 0 <= trainer.max_steps <= trainer.global_step or trainer.should_stop


def last_checkpoint(trainer: Trainer) -> Path | None:
    """The last good checkpoint of a training."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [each.last_good(trainer) for each in callbacks if isinstance(each, Checkpointer)]
    return next(filter(None, found), None)


def check_name(cfg: DictConfig) -> None:
    """Raises ValueError where ``name``, which checkpoints are called by, is no file's name."""
    name = cfg.name
    if name is not None and (not str(name).strip(". ") or any(c in str(name) for c in "/\\\0")):
        raise ConfigError(
            f"name={name!r}: checkpoints are called by it; expected a name without '/', and "
            "checkpoint.dir for the folder."
        )


def load_config(checkpoint: str | Path) -> DictConfig:
    """The config beside a checkpoint, as this plugin or solo-learn wrote it.

    Raises:
        FileNotFoundError: there is no checkpoint, or no ``args.json`` beside it.
    """
    checkpoint = Path(checkpoint)
    config = checkpoint.parent / CONFIG_FILE
    for path in (checkpoint, config):
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file; {CONFIG_FILE} lies beside a checkpoint.")
    try:
        found = OmegaConf.create(json.loads(config.read_text()))
    except ValueError as error:
        raise ConfigError(f"{config}: is not written to its end ({error}).") from error
    if not isinstance(found, DictConfig) or "data" not in found or "backbone" not in found:
        raise ConfigError(
            f"{config}: is no config of this plugin or of solo-learn, which say how the checkpoint "
            f"beside it is fed; expected a folder without it for {checkpoint.name}."
        )
    return found
