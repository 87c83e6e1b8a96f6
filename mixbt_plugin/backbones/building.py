"""A config's backbone, of the constructors that a host has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn

from mixbt_plugin.settings import ConfigError

CIFAR = ("cifar10", "cifar100")


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
        raise ConfigError(
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
