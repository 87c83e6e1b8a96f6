"""torchvision's ResNet-18 and -50 with the stem that a recipe asks for.

The papers change what stands before the first stage, and solo-learn changes it in its own way:

========================================  ====  =======  ========  =====
recipe                                    stem  padding  max_pool  relu
========================================  ====  =======  ========  =====
torchvision, ImageNet                     7x7   3        yes       yes
mix-bt, HSIC-SSL on CIFAR (32 px)         3x3   1        no        yes
mix-bt, HSIC-SSL on 64 px                 3x3   1        yes       yes
fastssl, every data set                   3x3   1        no        no
solo-learn's ``resnet…`` on CIFAR         3x3   2        no        yes
========================================  ====  =======  ========  =====

Shapes and names of the parameters agree in all rows with a 3 x 3 stem: weights load into another
row's backbone without an error, and its features are others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from torch import nn
from torchvision.models import ResNet

from mixbt_plugin.settings import ConfigError

STEMS = {"7x7": (7, 2), "3x3": (3, 1)}


def stem_resnet18(method: str | None = None, **kwargs: Any) -> ResNet:
    """ResNet-18 with a chosen stem: see `with_stem`."""
    return with_stem(torchvision.models.resnet18, **kwargs)


def stem_resnet50(method: str | None = None, **kwargs: Any) -> ResNet:
    """ResNet-50 with a chosen stem: see `with_stem`."""
    return with_stem(torchvision.models.resnet50, **kwargs)


def with_stem(
    constructor: Callable[..., ResNet],
    *,
    stem: str = "7x7",
    padding: int | None = None,
    max_pool: bool = True,
    relu: bool = True,
    init: str = "torchvision",
    **kwargs: Any,
) -> ResNet:
    """A ResNet without its classification layer, with torchvision's parameter names.

    Args:
        constructor: torchvision's.
        stem: ``7x7``, of stride 2, or ``3x3``, of stride 1.
        padding: of the first convolution; half its kernel by default.
        max_pool: whether max-pooling follows.
        relu: whether a ReLU follows the first batch-norm (mix-bt/model.py keeps it;
            fastssl/models/backbone.py loses it).
        init: of the convolutions: ``torchvision``, normal by the outputs (He), or ``pytorch``, as
            in fastssl/models/resnets.py.
        **kwargs: torchvision's, such as ``zero_init_residual``.

    Returns:
        Images (N, 3, H, W) to features (N, F), with F as ``num_features``.

    Raises:
        ValueError: ``stem`` or ``init`` is not known.
    """
    if stem not in STEMS:
        raise ConfigError(f"backbone.kwargs.stem={stem!r}: expected one of {', '.join(STEMS)}.")
    if init not in ("torchvision", "pytorch"):
        raise ConfigError(f"backbone.kwargs.init={init!r}: expected torchvision or pytorch.")
    kernel, stride = STEMS[stem]
    backbone: Any = constructor(**kwargs)
    if init == "pytorch":
        for module in backbone.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    if stem != "7x7" or padding is not None:
        # As the official codes do: a fresh convolution, with PyTorch's initialisation.
        backbone.conv1 = nn.Conv2d(
            3, 64, kernel, stride, kernel // 2 if padding is None else padding, bias=False
        )
    if not max_pool:
        backbone.maxpool = nn.Identity()
    if not relu:
        # Only the stem uses it: the blocks have their own.
        backbone.relu = nn.Identity()
    backbone.fc = nn.Identity()
    backbone.num_features = backbone.inplanes
    resnet: ResNet = backbone
    return resnet
