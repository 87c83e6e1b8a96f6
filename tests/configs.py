"""Configs and batches for method tests: small, and the same on every host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixbt_plugin.keys import PretrainConfig, complete

NUM_CLASSES = 7
GENTLE = {
    "name": "sgd",
    "batch_size": 32,
    "lr": 2e-4,
    "classifier_lr": 1e-3,
    "weight_decay": 1e-4,
    "kwargs": {},
}
"""An optimiser that does not enlarge the rounding errors of float32 beyond 1e-5 in 20 steps."""
PROJECTOR = {"proj_hidden_dim": 32, "proj_output_dim": 48}


def method_config(
    method: str,
    method_kwargs: dict[str, Any] | None = None,
    *,
    large: int = 2,
    small: int = 0,
    **overrides: Any,
) -> DictConfig:
    """A config as the parsers leave it."""
    cfg = OmegaConf.create(
        {
            "name": "test",
            "method": method,
            "method_kwargs": {**PROJECTOR, **(method_kwargs or {})},
            "backbone": {"name": "narrow_resnet10", "kwargs": {"width": 8}},
            "data": {
                "dataset": "custom",
                "num_classes": NUM_CLASSES,
                "num_large_crops": large,
                "num_small_crops": small,
            },
            "optimizer": {
                "name": "lars",
                "batch_size": 32,
                "lr": 0.04,
                "classifier_lr": 0.01,
                "weight_decay": 1e-4,
                "kwargs": {
                    "momentum": 0.9,
                    "clip_lr": True,
                    "eta": 0.02,
                    "exclude_bias_n_norm": True,
                },
            },
            "scheduler": {"name": "warmup_cosine", "warmup_epochs": 1},
            "max_epochs": 5,
            "seed": 3,
        }
    )
    for key, value in overrides.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, merge=False, force_add=True)
    return cfg


def completed_config(method: str, **overrides: Any) -> DictConfig:
    """`method_config` with all defaults, as the commands have it."""
    cfg = method_config(method, **overrides)
    complete(cfg, PretrainConfig)
    return cfg


class Batches(Dataset[Any]):
    """Images of fixed views, as (index, views, class)."""

    def __init__(self, count: int, sizes: Sequence[int]) -> None:
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(count, 3, 24, 24, generator=generator)
        self.views: list[Tensor] = [
            torch.nn.functional.interpolate(
                images + 0.3 * torch.randn(images.shape, generator=generator), size=size
            )
            for size in sizes
        ]
        self.targets = torch.arange(count) % NUM_CLASSES

    def __getitem__(self, index: int) -> tuple[int, list[Tensor], Tensor]:
        return index, [view[index] for view in self.views], self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


def loader(count: int = 128, sizes: Sequence[int] = (16, 16), batch_size: int = 32) -> Any:
    """Batches in a fixed order."""
    return DataLoader(Batches(count, sizes), batch_size=batch_size, drop_last=True)


def batch(sizes: Sequence[int] = (16, 16), n: int = 8) -> list[Any]:
    """One batch of `loader`."""
    first: list[Any] = next(iter(loader(n, sizes, n)))
    return first
