"""Which checkpoint a run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.weights import read_checkpoint

NOT_OF_THE_TRAINING = (
    *("resume_from_checkpoint", "auto_resume", "checkpoint", "wandb", "wandb_run_id"),
    *("tensorboard", "name", "enable_progress_bar", "log_every_n_steps", "debug_augmentations"),
)
MUST_AGREE = ("method", "method_kwargs", "backbone", "data.dataset", "data.color", "optimizer.name")


def checkpoint_to_resume(cfg: DictConfig, kind: str) -> Path | None:
    """The checkpoint that ``resume_from_checkpoint`` means.

    ``auto`` is the newest run below ``<checkpoint.dir>/<kind>`` whose whole config is this one's,
    but for where it logs and saves, and none where there is no such run. A path must be a
    checkpoint of the same method, ``method_kwargs``, backbone, data set and optimiser.

    Args:
        cfg: parsed, with the defaults that the module has filled in.
        kind: the method's name, or ``linear``.

    Returns:
        Its path, or None to start afresh.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or one of another run than this can continue.
    """
    wanted = cfg.get("resume_from_checkpoint")
    if wanted is None:
        return None
    if wanted == "auto":
        checkpoint = _newest_of_the_same_run(cfg, Path(cfg.checkpoint.dir) / kind)
        print(f"resume    {checkpoint or 'no earlier run with this config: starting afresh'}")
        return checkpoint
    checkpoint = Path(wanted)
    read_checkpoint(checkpoint)
    if (checkpoint.parent / CONFIG_FILE).is_file():
        _require_the_same_run(cfg, checkpoint)
    return checkpoint


def first_epoch(checkpoint: Path | None) -> int:
    """The epoch that training goes on with: 0 without a checkpoint."""
    return 0 if checkpoint is None else int(read_checkpoint(checkpoint)["epoch"]) + 1


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
