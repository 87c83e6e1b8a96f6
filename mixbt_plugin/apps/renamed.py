"""What replaces recipes that were shipped under another name."""

from __future__ import annotations

import re

RENAMED = (
    (
        r"pretrain/cifar/(\w+)_resnet50",
        r"--config-path pretrain/cifar --config-name \1 backbone.name=resnet50",
    ),
    (
        r"pretrain/cifar100/(\w+)_resnet50",
        r"--config-path pretrain/cifar --config-name \1 data.dataset=cifar100 "
        "backbone.name=resnet50",
    ),
    (
        r"pretrain/cifar100/(\w+)",
        r"--config-path pretrain/cifar --config-name \1 data.dataset=cifar100",
    ),
    (
        r"pretrain/(stl10|tiny-imagenet)/(\w+)_resnet50",
        r"--config-path pretrain/\1 --config-name \2 backbone.name=stem_resnet50",
    ),
    (
        r"pretrain/custom-no-labels/(\w+)",
        r"--config-path pretrain/custom --config-name \1 data.no_labels=true data.val_path=null",
    ),
    (
        r"linear/(mix-bt|hsic_ssl)/(\w+)_train_mode",
        r"--config-path linear/\1 --config-name \2 backbone_batch_norm=train",
    ),
    (
        r"linear/(cifar100|stl10)",
        r"--config-path linear --config-name cifar10 data.dataset=\1",
    ),
    (
        r"transfer/train_mode/(\w+)",
        r"--config-path transfer --config-name \1 backbone_batch_norm=train",
    ),
)
"""Old names, as patterns of the path below the shipped configs, and what is written instead."""


def renamed(config: str) -> str | None:
    """What is written instead of an old name.

    Args:
        config: path below the shipped configs, without suffix, such as
            ``pretrain/cifar/mixbt_resnet50``.

    Returns:
        The arguments of the command, None where that never was a recipe.
    """
    for pattern, replacement in RENAMED:
        if match := re.fullmatch(pattern, config):
            return match.expand(replacement)
    return None
