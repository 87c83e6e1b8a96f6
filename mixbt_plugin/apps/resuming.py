"""Which checkpoint a run goes on from, and which changes of the config it can take up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.restoring import Resumed
from mixbt_plugin.apps.slurm import is_started_again, slurm_job_id
from mixbt_plugin.keys import LinearConfig, PretrainConfig, complete
from mixbt_plugin.settings import ConfigError, flattened

NOT_OF_THE_TRAINING = (
    *("resume_from_checkpoint", "auto_resume", "checkpoint", "wandb", "wandb_run_id"),
    *("tensorboard", "name", "enable_progress_bar", "log_every_n_steps", "debug_augmentations"),
    *("slurm_job_id", "data.num_workers"),
)
MUST_AGREE = (
    *("method", "method_kwargs", "backbone", "data.dataset", "data.color", "optimizer.name"),
    *("optimizer.exclude_bias_n_norm_wd", "pretrained_feature_extractor", "finetune"),
)
"""What weights and state of the optimiser belong to."""
OF_AN_EPOCH = (
    *("seed", "data.fraction", "data.train_subset", "limit_train_batches", "devices", "num_nodes"),
    *("optimizer.batch_size", "accumulate_grad_batches"),
)
"""What an epoch's batches are made of: to be changed between epochs only."""
OF_THE_RATE = ("optimizer.lr", "optimizer.classifier_lr", "optimizer.bias_lr_ratio", "scheduler")


def checkpoint_to_resume(cfg: DictConfig, kind: str) -> Resumed | None:
    """The checkpoint that ``resume_from_checkpoint`` means.

    ``auto`` is the newest run below ``<checkpoint.dir>/<kind>`` whose whole config is this one's,
    but for where it logs and saves, and none where there is no such run. A path must be a
    checkpoint of the same method, ``method_kwargs``, backbone, data set and optimiser; what else
    differs in the configs is said, and holds from there on.

    A job that SLURM has started again goes on from its own newest checkpoint, whatever the key is.

    Args:
        cfg: parsed, with the defaults that the module has filled in.
        kind: the method's name, or ``linear``.

    Returns:
        The checkpoint, read, or None to start afresh.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint, or one of another run than this can continue.
    """
    wanted = cfg.resume_from_checkpoint
    accumulated = cfg.accumulate_grad_batches or 1
    if is_started_again():
        job = slurm_job_id()
        checkpoint = _newest_of_the_same_run(cfg, kind, job)
        say("resume", f"SLURM has started job {job} again: {checkpoint or 'nothing saved by it'}")
        if checkpoint:
            return Resumed(checkpoint, accumulated)
    if wanted is None:
        return None
    if wanted == "auto":
        checkpoint = _newest_of_the_same_run(cfg, kind)
        say("resume", checkpoint or "no earlier run with this config: starting afresh")
        return Resumed(checkpoint, accumulated) if checkpoint else None
    resumed = Resumed(Path(wanted), accumulated)
    say("resume", resumed.path)
    if (resumed.path.parent / CONFIG_FILE).is_file():
        _take_up(cfg, load_config(resumed.path), resumed)
    else:
        say("resume", f"no {CONFIG_FILE} lies beside it: this config is followed, unchecked")
    return resumed


def _newest_of_the_same_run(cfg: DictConfig, kind: str, job: int | None = None) -> Path | None:
    folder, wanted = Path(cfg.checkpoint.dir) / kind, _training_config(cfg)
    candidates = sorted(folder.glob("*/*.ckpt"), key=lambda path: path.stat().st_mtime)
    for checkpoint in reversed(candidates):
        if not (checkpoint.parent / CONFIG_FILE).is_file():
            continue
        theirs = load_config(checkpoint)
        of_the_job = job is None or theirs.get("slurm_job_id") == job
        if of_the_job and _training_config(theirs) == wanted:
            return checkpoint
    return None


def _training_config(cfg: DictConfig) -> dict[str, Any]:
    """What the training depends on, by dotted keys; null is the same as absent."""
    completed = cfg.copy()
    # Of a run that was saved when there were fewer keys.
    complete(completed, PretrainConfig if "method" in cfg else LinearConfig)
    values = flattened(OmegaConf.to_container(completed, resolve=True))
    return {
        key: value
        for key, value in values.items()
        if value is not None and not _within(key, NOT_OF_THE_TRAINING)
    }


def _within(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _take_up(cfg: DictConfig, theirs: DictConfig, resumed: Resumed) -> None:
    """Says what differs between two configs of a run, and refuses what cannot be applied."""
    ours, other = _training_config(cfg), _training_config(theirs)
    changed = [key for key in sorted({*ours, *other}) if ours.get(key) != other.get(key)]
    for key in changed:
        reason = _why_not(key, ours, other, resumed)
        if reason:
            raise ConfigError(
                f"resume_from_checkpoint={str(resumed.path)!r}: that run has {key}="
                f"{other.get(key)}, this one {key}={ours.get(key)}. {reason}"
            )
    for key in changed:
        say("resume", f"{key}: {other.get(key)} until there, {ours.get(key)} from there on")


def _why_not(key: str, ours: dict[str, Any], other: dict[str, Any], resumed: Resumed) -> str | None:
    if _within(key, MUST_AGREE):
        return "Resume with the same, or start afresh."
    if key == "optimizer.bias_lr_ratio" and None in (ours.get(key), other.get(key)):
        return "Biases have a group of their own in one of them. Resume with the same."
    if resumed.first_batch and _within(key, OF_AN_EPOCH):
        return (
            f"It was stopped within an epoch, after {resumed.first_batch} batches, of which the "
            "rest is still to come: resume with the same, or from the end of an epoch."
        )
    if ours.get("scheduler.name") == "reduce" and _within(key, OF_THE_RATE):
        return (
            "scheduler.name=reduce lowers the rate by the losses of the epochs before, which a "
            "run of this config would not have had. Resume with the same."
        )
    return None
