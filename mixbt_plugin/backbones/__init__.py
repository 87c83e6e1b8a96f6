"""Backbones that the host's list lacks, as solo-learn calls its own: ``name(method, **kwargs)``.

Their names do not begin with ``resnet``: solo-learn gives every backbone whose name does its own
stem, by the data set. `build_backbone` builds any, by a config.
"""

from collections.abc import Callable
from typing import Any

from mixbt_plugin.backbones.building import build_backbone
from mixbt_plugin.backbones.narrow_resnet import NarrowResNet10, narrow_resnet10
from mixbt_plugin.backbones.stem_resnet import stem_resnet18, stem_resnet50

BACKBONES: dict[str, Callable[..., Any]] = {
    "narrow_resnet10": narrow_resnet10,
    "stem_resnet18": stem_resnet18,
    "stem_resnet50": stem_resnet50,
}

__all__ = [
    "BACKBONES",
    "NarrowResNet10",
    "build_backbone",
    "narrow_resnet10",
    "stem_resnet18",
    "stem_resnet50",
]
