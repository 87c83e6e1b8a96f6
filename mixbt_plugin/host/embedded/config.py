"""Defaults and checks of a config in solo-learn's schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# The last is that of the plugin's own methods, which schedule themselves.
SCHEDULERS = ("warmup_cosine", "step", "none", "barlow_cosine")
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "imagenet": 1000, "imagenet100": 100}
DATASETS = [*NUM_CLASSES, "custom"]


def add_dataset(name: str, num_classes: int) -> None:
    """Makes the config parsers accept a further data set."""
    NUM_CLASSES[name] = num_classes
    if name not in DATASETS:
        DATASETS.append(name)


def set_defaults(cfg: DictConfig, defaults: Mapping[str, Any]) -> None:
    """Sets dotted keys that are absent; the text "None" counts as null, as in solo-learn."""
    for key, default in defaults.items():
        value = OmegaConf.select(cfg, key, default=default)
        OmegaConf.update(cfg, key, None if value == "None" else value, force_add=True)


def require(cfg: DictConfig, *keys: str) -> None:
    """Raises ValueError unless each dotted key has a value."""
    for key in keys:
        if OmegaConf.select(cfg, key) is None:
            raise ValueError(f"{key} is missing from the config.")


def require_choice(cfg: DictConfig, key: str, choices: Any) -> None:
    """Raises ValueError unless the key's value is one of ``choices``."""
    value = OmegaConf.select(cfg, key)
    if value not in choices:
        raise ValueError(f"{key}={value!r}: expected one of {', '.join(map(str, choices))}.")


def add_shared_defaults(cfg: DictConfig) -> None:
    """Defaults of backbone, optimiser, schedule and performance, as in solo-learn."""
    set_defaults(
        cfg,
        {
            "backbone.kwargs": {},
            "optimizer.exclude_bias_n_norm_wd": False,
            "optimizer.kwargs": {},
            "accumulate_grad_batches": 1,
            "scheduler.lr_decay_steps": None,
            "scheduler.min_lr": 0.0,
            "scheduler.warmup_start_lr": 3e-5,
            "scheduler.warmup_epochs": 10,
            "scheduler.interval": "step",
            "performance.disable_channel_last": False,
        },
    )


def parse_pretrain_cfg(cfg: DictConfig) -> DictConfig:
    """Completes a pre-training config, as solo-learn's ``solo.args.pretrain.parse_cfg`` does.

    The learning rates are scaled by ``batch_size · devices · num_nodes / 256``, views are counted
    as large where their ``crop_size`` equals the first pipeline's and as small elsewhere.

    Args:
        cfg: changed in place; ``devices`` is a list.

    Returns:
        The config.

    Raises:
        ValueError: a key is missing or has a value that cannot be used.
    """
    require(cfg, "augmentations", "optimizer.classifier_lr")
    _parse_shared(cfg)
    require_choice(cfg, "scheduler.name", SCHEDULERS)
    set_defaults(cfg, {"data.val_path": None, "data.no_labels": False})

    big_size = cfg.augmentations[0].crop_size
    crops = {True: 0, False: 0}
    for pipeline in cfg.augmentations:
        crops[pipeline.crop_size == big_size] += pipeline.num_crops
    cfg.data.num_large_crops, cfg.data.num_small_crops = crops[True], crops[False]
    # As solo-learn: without validation images the classifier's rate stays as it is.
    if cfg.data.val_path is not None:
        cfg.optimizer.classifier_lr *= _batch_scale(cfg)
    return cfg


def parse_linear_cfg(cfg: DictConfig) -> DictConfig:
    """Completes a linear-evaluation config, as solo-learn's ``solo.args.linear.parse_cfg`` does.

    Args:
        cfg: changed in place; ``devices`` is a list.

    Returns:
        The config.

    Raises:
        ValueError: a key is missing or has a value that cannot be used.
    """
    require(cfg, "pretrained_feature_extractor")
    _parse_shared(cfg)
    set_defaults(
        cfg,
        {
            "pretrain_method": None,
            "auto_augment": False,
            "label_smoothing": 0.0,
            "mixup": 0.0,
            "cutmix": 0.0,
        },
    )
    return cfg


def _parse_shared(cfg: DictConfig) -> None:
    keys = ("data.dataset", "backbone.name", "optimizer.name", "optimizer.batch_size")
    require(cfg, *keys, "optimizer.lr", "scheduler.name", "max_epochs")
    require_choice(cfg, "data.dataset", DATASETS)
    require_choice(cfg, "optimizer.name", ("sgd", "lars", "adam", "adamw"))
    set_defaults(
        cfg,
        {
            "seed": 5,
            "num_nodes": 1,
            "strategy": None,
            "resume_from_checkpoint": None,
            "optimizer.weight_decay": 0.0,
            "data.format": "image_folder",
            "data.fraction": -1,
            "checkpoint.enabled": False,
            "checkpoint.dir": "trained_models",
            "checkpoint.frequency": 1,
            "checkpoint.keep_prev": False,
            "wandb.enabled": False,
            "wandb.entity": None,
            "wandb.project": "solo-learn",
            "wandb.offline": False,
        },
    )
    add_shared_defaults(cfg)
    require_choice(cfg, "scheduler.interval", ("step", "epoch"))
    defaults_of: dict[str, dict[str, Any]] = {
        "sgd": {"momentum": 0.9},
        "lars": {"momentum": 0.9, "eta": 1e-3, "clip_lr": False, "exclude_bias_n_norm": False},
        "adamw": {"betas": [0.9, 0.999]},
        "adam": {},
    }
    optimizer_defaults = defaults_of[cfg.optimizer.name]
    set_defaults(cfg, {f"optimizer.kwargs.{k}": v for k, v in optimizer_defaults.items()})
    cfg.optimizer.lr *= _batch_scale(cfg)
    cfg.data.num_classes = NUM_CLASSES.get(cfg.data.dataset) or _count_folders(cfg)


def _batch_scale(cfg: DictConfig) -> float:
    return float(cfg.optimizer.batch_size * len(cfg.devices) * cfg.num_nodes / 256)


def _count_folders(cfg: DictConfig) -> int:
    require(cfg, "data.train_path")
    folder = Path(cfg.data.train_path)
    if not folder.is_dir():
        raise ValueError(f"data.train_path={str(folder)!r}: no such folder.")
    return max(1, sum(entry.is_dir() for entry in folder.iterdir()))
