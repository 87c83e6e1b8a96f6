"""Completes a config in solo-learn's schema as solo-learn's parsers do."""

from __future__ import annotations

from omegaconf import DictConfig

from mixbt_plugin.keys import LinearConfig, PretrainConfig, Training, complete

NUM_CLASSES: dict[str, int] = {}
"""By the names of the data sets that `add_dataset` was told of."""


def add_dataset(name: str, num_classes: int) -> None:
    """Tells the config parsers how many classes a data set has; they know of none by themselves."""
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
        KeyError: `add_dataset` was not told of the data set.
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
        KeyError: `add_dataset` was not told of the data set.
    """
    _parse_shared(cfg, LinearConfig)
    return cfg


def _parse_shared(cfg: DictConfig, declaration: type[Training]) -> None:
    complete(cfg, declaration)
    cfg.optimizer.lr *= _batch_scale(cfg)
    cfg.data.num_classes = NUM_CLASSES[cfg.data.dataset]


def _batch_scale(cfg: DictConfig) -> float:
    return float(cfg.optimizer.batch_size * len(cfg.devices) * cfg.num_nodes / 256)
