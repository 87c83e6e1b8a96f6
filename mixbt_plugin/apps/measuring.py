"""Measures features and embeddings of images that stay the same, during and after a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import Subset

from mixbt_plugin.data import SOURCES, pretrain_dataset, validation_dataset
from mixbt_plugin.diagnostics import Diagnostics

KINDS = {"features": "feats", "embeddings": "z"}
"""What is measured, and what a method's outputs call it."""


def has_validation_images(cfg: DictConfig) -> bool:
    """Whether a config has images that are not trained on."""
    return cfg.data.dataset in SOURCES or cfg.data.get("val_path") is not None


def images_to_measure(cfg: DictConfig, transform: Any) -> Any:
    """Validation images, or training images where there are no others, as (views, class)."""
    if has_validation_images(cfg):
        return validation_dataset(cfg, transform)
    return _WithoutIndex(pretrain_dataset(cfg, transform))


def evenly(images: Any, count: int, rank: int = 0, processes: int = 1) -> Subset[Any]:
    """A process's share of ``count`` images, over all classes, which mostly stand in order."""
    chosen = [place * len(images) // count for place in range(count)]
    return Subset(images, chosen[rank::processes])


class _WithoutIndex:
    """A data set of (index, views, class) as (views, class)."""

    def __init__(self, images: Any) -> None:
        self.images = images

    def __getitem__(self, index: int) -> tuple[Any, int]:
        _, views, target = self.images[index]
        return views, target

    def __len__(self) -> int:
        return len(self.images)


class Measures:
    """`Diagnostics` of each of `KINDS`, fed with what a method makes of the views of images.

    Args:
        device: of the method.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._of: dict[str, Diagnostics] = {}

    def update(self, outputs: Sequence[Mapping[str, Tensor]]) -> None:
        """Takes a method's outputs, those of each view of a batch."""
        for kind, key in KINDS.items():
            if key in outputs[0]:
                if kind not in self._of:
                    self._of[kind] = Diagnostics().to(self._device)
                self._of[kind].update(torch.stack([out[key].float() for out in outputs], dim=1))

    def compute(self) -> dict[str, dict[str, Tensor]]:
        """The measures of each kind that there is, over all processes."""
        return {kind: one.compute() for kind, one in self._of.items()}

    def first_views(self) -> dict[str, Tensor]:
        """The features (N, F) of this process that all measures of one view are of."""
        return {kind: torch.cat(list(one.views))[:, 0] for kind, one in self._of.items()}


def passed(trainer: Trainer, model: Any, images: Tensor) -> dict[str, Tensor]:
    """What a method that is being trained makes of images, in the precision of the training."""
    images = trainer.precision_plugin.convert_input(images.to(model.device))
    with trainer.precision_plugin.forward_context():
        outputs: dict[str, Tensor] = model(images)
    return outputs


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Restores whether each part is in training or evaluation mode."""
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def left_as_it_is(module: Any) -> Iterator[None]:
    """Restores buffers, modes and random states, and keeps the online kNN from listening."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    knn_eval = getattr(module, "knn_eval", False)
    module.knn_eval = False
    devices = [module.device] if module.device.type == "cuda" else []
    try:
        with modes_kept(module), torch.random.fork_rng(devices):
            yield
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
        module.knn_eval = knn_eval
