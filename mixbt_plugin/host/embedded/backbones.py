"""Backbones by solo-learn's names, from torchvision and timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm.models
import torchvision
from omegaconf import DictConfig
from torch import nn

CIFAR = ("cifar10", "cifar100")


def _resnet(constructor: Callable[..., nn.Module], method: str | None, **kwargs: Any) -> nn.Module:
    return constructor(**kwargs)


def _from_timm(name: str, method: str | None, **kwargs: Any) -> nn.Module:
    # Not by timm.create_model: where solo-learn was imported, its constructors replace timm's.
    backbone: nn.Module = getattr(timm.models, name)(num_classes=0, **kwargs)
    return backbone


def _solo_learns_own(method: str | None, **kwargs: Any) -> nn.Module:
    raise ValueError(
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


def build_backbone(
    backbones: Mapping[str, Callable[..., nn.Module]], cfg: DictConfig, method: str | None
) -> tuple[nn.Module, int]:
    """Builds the backbone of a config, without its classification layer.

    As in solo-learn (solo/methods/base.py:184-206), a ResNet on CIFAR gets a 3 x 3 stem of stride 1
    (with padding 2) and no max-pooling.

    Args:
        backbones: constructors by name, each called with ``method`` and the backbone's kwargs.
        cfg: with ``backbone.name``, ``backbone.kwargs`` and ``data.dataset``.
        method: name of the pre-training method, by which solo-learn varies its ViTs.

    Returns:
        The backbone, mapping images (N, 3, H, W) to features (N, F), and F.

    Raises:
        ValueError: ``backbone.name`` is not known.
    """
    name = cfg.backbone.name
    if name not in backbones:
        raise ValueError(
            f"backbone.name={name!r} is not known; expected one of {', '.join(backbones)}."
        )
    backbone: Any = backbones[name](method=method, **cfg.backbone.kwargs)
    if not name.startswith("resnet"):
        return backbone, backbone.num_features
    backbone.fc = nn.Identity()
    if cfg.data.dataset in CIFAR:
        backbone.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=2, bias=False)
        backbone.maxpool = nn.Identity()
    return backbone, backbone.inplanes
