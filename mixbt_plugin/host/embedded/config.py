"""Completes a config in solo-learn's schema as solo-learn's parsers do."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from mixbt_plugin.keys import LinearConfig, PretrainConfig, Training, complete
from mixbt_plugin.settings import ConfigError

NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "imagenet": 1000, "imagenet100": 100}


def add_dataset(name: str, num_classes: int) -> None:
    """Makes the config parsers accept a further data set."""
    NUM_CLASSES[name] = num_classes


def parse_pretrain_cfg(cfg: DictConfig) -> DictConfig:
    """Completes a pre-training config, as solo-learn's ``solo.args.pretrain.parse_cfg`` does.

    The learning rates are scaled by ``batch_size · devices · num_nodes / 256``, views are counted
    as large where their ``crop_size`` equals the first pipeline's and as small elsewhere.

    Args:
        cfg: checked; changed in place; ``devices`` is a list.

    Returns:
        The config.

    Raises:
        ConfigError: ``data.train_path`` is not there.
    """
    _parse_shared(cfg, PretrainConfig)
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
        cfg: checked; changed in place; ``devices`` is a list.

    Returns:
        The config.

    Raises:
        ConfigError: ``data.train_path`` is not there.
    """
    _parse_shared(cfg, LinearConfig)
    return cfg


def _parse_shared(cfg: DictConfig, declaration: type[Training]) -> None:
    complete(cfg, declaration)
    cfg.optimizer.lr *= _batch_scale(cfg)
    cfg.data.num_classes = NUM_CLASSES.get(cfg.data.dataset) or _count_folders(cfg)


def _batch_scale(cfg: DictConfig) -> float:
    return float(cfg.optimizer.batch_size * len(cfg.devices) * cfg.num_nodes / 256)


def _count_folders(cfg: DictConfig) -> int:
    folder = Path(cfg.data.train_path)
    if not folder.is_dir():
        raise ConfigError(f"data.train_path={str(folder)!r}: no such folder.")
    return max(1, sum(entry.is_dir() for entry in folder.iterdir()))
