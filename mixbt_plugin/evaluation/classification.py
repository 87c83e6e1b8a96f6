"""A step of linear evaluation or fine-tuning."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mixbt_plugin.evaluation.accuracy import accuracy_at_k


def classification_step(model: Any, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Loss and accuracies of a batch of images and classes.

    In training the loss is ``model.loss_func``, of images and targets that ``model.mixup_func``,
    where it is given, has mixed; there are no accuracies then. In validation it is cross-entropy.
    solo-learn's ``shared_step`` takes ``loss_func`` into account only with ``mixup_func``, so that
    label smoothing alone has no effect there (solo/methods/linear.py:327-332), and asks for at
    least five classes.
    """
    images, targets = batch
    mixed = model.training and model.mixup_func is not None
    if mixed:
        images, targets = model.mixup_func(images, targets)
    logits = model(images)["logits"]
    loss_func = model.loss_func if model.training else F.cross_entropy
    metrics = {"batch_size": len(images), "loss": loss_func(logits, targets)}
    if not mixed:
        metrics["acc1"] = accuracy_at_k(logits, targets, 1)
        metrics["acc5"] = accuracy_at_k(logits, targets, 5)
    return metrics
