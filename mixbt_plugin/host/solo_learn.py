"""solo-learn's own classes and functions, under the names of the door.

This is the only file that imports ``solo``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mixbt_plugin.backbones import build_backbone as _build_backbone
from mixbt_plugin.host.detect import CHECKOUT_HINT, HostError
from mixbt_plugin.settings import ConfigError, MissingPackageError

try:
    from solo.args import linear as _linear_args
    from solo.args import pretrain as _pretrain_args
    from solo.data.pretrain_dataloader import (
        FullTransformPipeline,
        NCropAugmentation,
        build_transform_pipeline,
    )
    from solo.methods import METHODS
    from solo.methods.base import BaseMethod
    from solo.methods.linear import LinearModel
except ImportError as error:
    raise HostError(
        f"solo-learn was found but does not import ({error}). It needs "
        '"setuptools<81" and "torchmetrics<0.12"; or set MIXBT_HOST=embedded to do without it. '
        f"To use it: {CHECKOUT_HINT}."
    ) from error


def _with_a_message(
    parse: Callable[[DictConfig], DictConfig],
) -> Callable[[DictConfig], DictConfig]:
    """A parser of solo-learn, whose bare assertions say what they asked for."""

    def parse_cfg(cfg: DictConfig) -> DictConfig:
        try:
            return parse(cfg)
        except (AssertionError, OmegaConfBaseException) as error:
            frame = extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f"solo-learn refuses this config: {error} `{frame.line}` "
                f"({Path(frame.filename).name}:{frame.lineno})."
            ) from error

    return parse_cfg


parse_pretrain_cfg = _with_a_message(_pretrain_args.parse_cfg)
parse_linear_cfg = _with_a_message(_linear_args.parse_cfg)
build_backbone = partial(_build_backbone, BaseMethod._BACKBONES)


def add_dataset(name: str, num_classes: int) -> None:
    """Tells the config parsers how many classes a data set has, whether they know it or not."""
    for args in (_pretrain_args, _linear_args):
        args._N_CLASSES_PER_DATASET[name] = num_classes
        if name not in args._SUPPORTED_DATASETS:
            args._SUPPORTED_DATASETS.append(name)


def dali_loaders() -> Any:
    """solo-learn's module ``solo.data.dali_dataloader``.

    Raises:
        ModuleNotFoundError: DALI is not installed.
    """
    try:
        from solo.data import dali_dataloader
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "data.format='dali': pip install \"mixbt-plugin[dali]\" (nvidia-dali-cuda130), or "
            f"nvidia-dali-cuda120 for CUDA 12 ({error})."
        ) from error
    return dali_dataloader


def imagenet100_classes() -> list[str]:
    """The classes of ImageNet-100, by which solo-learn reads an H5 file of all of ImageNet."""
    listed = (
        Path(_pretrain_args.__file__).parents[1] / "data/dataset_subset/imagenet100_classes.txt"
    )
    return listed.read_text().split()


__all__ = [
    "METHODS",
    "BaseMethod",
    "FullTransformPipeline",
    "LinearModel",
    "NCropAugmentation",
    "add_dataset",
    "build_backbone",
    "build_transform_pipeline",
    "dali_loaders",
    "imagenet100_classes",
    "parse_linear_cfg",
    "parse_pretrain_cfg",
]
