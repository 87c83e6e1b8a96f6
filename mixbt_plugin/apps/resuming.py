"""Which checkpoint a run goes on from, and how it is handed to Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.printing import say
from mixbt_plugin.checkpoints import read_checkpoint

NOT_OF_THE_TRAINING = (
    *("resume_from_checkpoint", "auto_resume", "checkpoint", "wandb", "wandb_run_id"),
    *("tensorboard", "name", "enable_progress_bar", "log_every_n_steps", "debug_augmentations"),
)
MUST_AGREE = ("method", "method_kwargs", "backbone", "data.dataset", "data.color", "optimizer.name")


class Resumed(TorchCheckpointIO):
    """A checkpoint that a run goes on from: read once, and Lightning gets what was read.

    Lightning by itself would read the file again, and with what PyTorch's version takes for safe.

    Args:
        path: of the checkpoint.

    Attributes:
        first_epoch: the epoch that training goes on with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of a training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] | None = read_checkpoint(path)
        if "epoch" not in self._content:
            raise ValueError(f"{path}: holds no 'epoch'; weights alone cannot be resumed.")
        self.first_epoch = int(self._content["epoch"]) + 1

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """The content, which is not kept afterwards, or that of another path."""
        content, self._content = self._content, None
        return read_checkpoint(path) if content is None or Path(path) != self.path else content


def checkpoint_to_resume(cfg: DictConfig, kind: str) -> Resumed | None:
    """The checkpoint that ``resume_from_checkpoint`` means.

    ``auto`` is the newest run below ``<checkpoint.dir>/<kind>`` whose whole config is this one's,
    but for where it logs and saves, and none where there is no such run. A path must be a
    checkpoint of the same method, ``method_kwargs``, backbone, data set and optimiser.

    Args:
        cfg: parsed, with the defaults that the module has filled in.
        kind: the method's name, or ``linear``.

    Returns:
        The checkpoint, read, or None to start afresh.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or one of another run than this can continue.
    """
    wanted = cfg.get("resume_from_checkpoint")
    if wanted is None:
        return None
    if wanted == "auto":
        checkpoint = _newest_of_the_same_run(cfg, Path(cfg.checkpoint.dir) / kind)
        say("resume", checkpoint or "no earlier run with this config: starting afresh")
        return Resumed(checkpoint) if checkpoint else None
    resumed = Resumed(Path(wanted))
    if (resumed.path.parent / CONFIG_FILE).is_file():
        _require_the_same_run(cfg, resumed.path)
    return resumed


def _newest_of_the_same_run(cfg: DictConfig, folder: Path) -> Path | None:
    wanted = _training_config(cfg)
    candidates = sorted(folder.glob("*/*.ckpt"), key=lambda path: path.stat().st_mtime)
    for checkpoint in reversed(candidates):
        if (checkpoint.parent / CONFIG_FILE).is_file() and (
            _training_config(load_config(checkpoint)) == wanted
        ):
            return checkpoint
    return None


def _training_config(cfg: DictConfig) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    config["data"] = {k: v for k, v in config["data"].items() if k != "num_workers"}
    return {key: value for key, value in config.items() if key not in NOT_OF_THE_TRAINING}


def _require_the_same_run(cfg: DictConfig, checkpoint: Path) -> None:
    theirs = load_config(checkpoint)
    for key in MUST_AGREE:
        ours, other = OmegaConf.select(cfg, key), OmegaConf.select(theirs, key)
        if ours != other:
            raise ValueError(
                f"resume_from_checkpoint={str(checkpoint)!r}: that run has {key}={other}, this "
                f"one {key}={ours}. Resume with the same, or start afresh."
            )
