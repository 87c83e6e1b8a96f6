"""What a ResNet does before its first stage: weights of one stem fit others, features do not."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn


class Stem(NamedTuple):
    """The parts of a stem that leave the shapes of the weights as they are.

    Attributes:
        padding: of the first convolution.
        relu: whether a ReLU follows the first batch-norm.
        max_pool: whether a max-pooling follows that.
    """

    padding: int
    relu: bool
    max_pool: bool

    def __str__(self) -> str:
        """In the words of the kwargs of ``stem_resnet18`` and ``stem_resnet50``."""
        relu, max_pool = str(self.relu).lower(), str(self.max_pool).lower()
        return f"padding={self.padding} relu={relu} max_pool={max_pool}"


def stem_of(backbone: nn.Module) -> Stem | None:
    """The stem of a ResNet with torchvision's names; None for any other network."""
    conv1: Any = getattr(backbone, "conv1", None)
    if not isinstance(conv1, nn.Conv2d) or not hasattr(backbone, "maxpool"):
        return None
    return Stem(
        padding=int(conv1.padding[0]),
        relu=not isinstance(backbone.relu, nn.Identity),
        max_pool=not isinstance(backbone.maxpool, nn.Identity),
    )
