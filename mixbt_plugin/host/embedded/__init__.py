"""A compact stand-in for solo-learn, for machines where it is not installed.

It offers the part of solo-learn's contract that this plugin calls: the same config keys, method
interface, log names, parameter names and checkpoint layout, so that configs and checkpoints go
both ways. What solo-learn does beyond that (its other methods, DALI, UMAP, auto-resume,
PoolFormer and Wide ResNet) is solo-learn's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from mixbt_plugin.backbones import build_backbone as _build_backbone
from mixbt_plugin.host.detect import CHECKOUT_HINT
from mixbt_plugin.host.embedded.backbones import BACKBONES
from mixbt_plugin.host.embedded.base import BaseMethod
from mixbt_plugin.host.embedded.config import add_dataset, parse_linear_cfg, parse_pretrain_cfg
from mixbt_plugin.host.embedded.linear import LinearModel
from mixbt_plugin.host.embedded.transforms import (
    FullTransformPipeline,
    NCropAugmentation,
    build_transform_pipeline,
)
from mixbt_plugin.settings import ConfigError

METHODS: dict[str, type] = {"base": BaseMethod, "linear": LinearModel}
build_backbone = partial(_build_backbone, BACKBONES)


def dali_loaders() -> Any:
    """DALI is solo-learn's.

    Raises:
        ValueError: always.
    """
    raise ConfigError(
        "data.format='dali' goes through solo-learn's own loaders, and solo-learn is not in use "
        f"here: {CHECKOUT_HINT}; data.format=image_folder reads the same folders."
    )


def imagenet100_classes() -> list[str] | None:
    """The classes of ImageNet-100; a list of solo-learn's, which is not here."""
    return None


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
