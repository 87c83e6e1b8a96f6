"""A small backbone for training on a CPU; the host's list has none below ResNet-18."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3


class NarrowResNet10(nn.Module):
    """ResNet with one basic block a stage and a 3 x 3 stem of stride 1 without max-pooling.

    At the default width 1.2 M parameters and 256 features, for images of 16 to 64 pixels.

    Args:
        width: channels of stem and first stage; doubled at each of the next three.

    Attributes:
        num_features: dimension F of the features, 8 · width.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.num_features = 8 * width
        self.stem = nn.Sequential(conv3x3(3, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(
            _stage(width, width, stride=1),
            *(_stage(width * 2**i, width * 2 ** (i + 1), stride=2) for i in range(3)),
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, F) of images (N, 3, H, W)."""
        features: Tensor = self.pool(self.stages(self.stem(x)))
        return features


def _stage(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


def narrow_resnet10(method: str | None = None, width: int = 32) -> NarrowResNet10:
    """`NarrowResNet10`, as solo-learn calls its backbones: with the pre-training method's name."""
    return NarrowResNet10(width)
