"""Backbones by solo-learn's names, from torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm.models
import torchvision
from torch import nn

from mixbt_plugin.settings import ConfigError


def _resnet(constructor: Callable[..., nn.Module], method: str | None, **kwargs: Any) -> nn.Module:
    return constructor(**kwargs)


def _from_timm(name: str, method: str | None, **kwargs: Any) -> nn.Module:
    # Not by timm.create_model: where solo-learn was imported, its constructors replace timm's.
    backbone: nn.Module = getattr(timm.models, name)(num_classes=0, **kwargs)
    return backbone


def _solo_learns_own(method: str | None, **kwargs: Any) -> nn.Module:
    raise ConfigError(
        "backbone.name: PoolFormer and Wide ResNet are solo-learn's own code, and timm has none "
        "with the same parameters. Install solo-learn to use them, or choose another backbone."
    )


BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(_resnet, torchvision.models.resnet18),
    "resnet50": partial(_resnet, torchvision.models.resnet50),
    **{
        f"vit_{size}": partial(_from_timm, f"vit_{size}_patch16_224")
        for size in ("tiny", "small", "base", "large")
    },
    **{
        f"swin_{size}": partial(_from_timm, f"swin_{size}_patch4_window7_224")
        for size in ("tiny", "small", "base", "large")
    },
    **{
        f"convnext_{size}": partial(_from_timm, f"convnext_{size}")
        for size in ("tiny", "small", "base", "large")
    },
    **{f"poolformer_{size}": _solo_learns_own for size in ("s12", "s24", "s36", "m36", "m48")},
    **{f"wide_resnet28w{width}": _solo_learns_own for width in (2, 8)},
}
