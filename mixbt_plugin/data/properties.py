"""What is known of each data set apart from its images: classes, size, statistics, validation.

This is the only place that says so; the hosts' parsers are told by `mixbt_plugin.host.add_dataset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


@dataclass(frozen=True)
class Properties:
    """A data set apart from its images.

    Attributes:
        num_classes: number of classes; None where the folders say.
        size: height and width in pixels that it is evaluated at where a config does not say.
        mean: of the channels, in [0, 1].
        std: of the channels.
        margin: validation images are brought to ``margin`` times the crop size before its centre
            is cut out; at 1 they are taken whole.
        fixed_size: all images are of ``size``, and at that size they are always taken whole.
        flip: whether mirrored images keep their class.
        split: which part of it accuracies are reported on: ``validation`` where the test labels are
            not public, or where the user brings a folder.
        downloaded: whether torchvision puts it into ``data.train_path`` where it is not there.
    """

    num_classes: int | None
    size: int
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    margin: float = 1.0
    fixed_size: bool = True
    flip: bool = True
    split: str = "test"
    downloaded: bool = False


# 256 pixels for a crop of 224, as ImageNet is evaluated everywhere.
IMAGENET_MARGIN = 256 / 224
CUSTOM = Properties(None, 224, margin=IMAGENET_MARGIN, fixed_size=False, split="validation")
PROPERTIES: dict[str, Properties] = {
    # Statistics as in solo-learn (solo/data/pretrain_dataloader.py).
    "cifar10": Properties(
        10, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), downloaded=True
    ),
    "cifar100": Properties(
        100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), downloaded=True
    ),
    # 70 pixels for a crop of 64, as mix-bt (utils.py:86); solo-learn evaluates at 96 alone.
    "stl10": Properties(
        10, 96, (0.4914, 0.4823, 0.4466), (0.247, 0.243, 0.261), margin=70 / 64, downloaded=True
    ),
    # Statistics of mix-bt (utils.py:36-57).
    "tiny_imagenet": Properties(
        200, 64, (0.480, 0.448, 0.398), (0.277, 0.269, 0.282), split="validation"
    ),
    "imagenet": replace(CUSTOM, num_classes=1000),
    "imagenet100": replace(CUSTOM, num_classes=100),
    "custom": CUSTOM,
    # Size as mix-bt's transfer of a network that was trained on 64 px (evaluate_transfer.py:20-26).
    "dtd": Properties(47, 64, fixed_size=False, downloaded=True),
    "aircraft": Properties(100, 64, fixed_size=False, downloaded=True),
    "flowers102": Properties(102, 64, fixed_size=False, downloaded=True),
    "gtsrb": Properties(43, 64, fixed_size=False, flip=False, downloaded=True),
    "cub200": Properties(200, 64, fixed_size=False),
    "mnist": Properties(
        10, 32, (0.1307,) * 3, (0.3081,) * 3, fixed_size=False, flip=False, downloaded=True
    ),
    "fashion_mnist": Properties(
        10, 32, (0.2860,) * 3, (0.3530,) * 3, fixed_size=False, downloaded=True
    ),
    # Statistics of the training images of mixbt_plugin.data.sources.
    "mnist5k": Properties(10, 32, (0.1,) * 3, (0.275,) * 3, flip=False),
    "photo_patches": Properties(15, 32, (0.4,) * 3, (0.24,) * 3),
}


def properties(dataset: str) -> Properties:
    """The properties of a data set; those of ``custom`` for a name that is not known."""
    return PROPERTIES.get(dataset, CUSTOM)
