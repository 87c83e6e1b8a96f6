"""Features of a frozen network."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mixbt_plugin.data import count_replaced, evaluation_datasets, evaluation_transforms


class Features(NamedTuple):
    """Features and classes of both splits, on the CPU."""

    train: dict[str, Tensor]
    train_targets: Tensor
    test: dict[str, Tensor]
    test_targets: Tensor


def extract_features(
    model: Any, cfg: DictConfig, *, batch_size: int = 256, num_workers: int = 0, device: str = "cpu"
) -> Features:
    """Passes the labelled training and validation images, not augmented, through a method.

    Args:
        model: a method in evaluation mode.
        cfg: its parsed pre-training config: data set, paths and crop size.
        batch_size: images at a time.
        num_workers: processes that read images.
        device: where the network runs.

    Returns:
        ``backbone`` features (N, F) and, where the method has a projector, ``projector`` (N, D).
    """
    first = cfg.augmentations[0]
    _, still = evaluation_transforms(
        cfg.data.dataset, first.crop_size, first.get("mean"), first.get("std")
    )
    splits = [
        _extract(
            model.to(device),
            DataLoader(images, batch_size=batch_size, num_workers=num_workers),
            torch.device(device),
        )
        for images in evaluation_datasets(cfg, still, still)
    ]
    return Features(*splits[0], *splits[1])


@torch.no_grad()
def _extract(
    model: Any, loader: DataLoader[Any], device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    backbone, projector, targets = [], [], []
    for images, classes in tqdm(loader, desc="features", leave=False):
        out = model(images.to(device))
        backbone.append(out["feats"].cpu())
        if "z" in out:
            projector.append(out["z"].cpu())
        targets.append(classes)
    if replaced := count_replaced(loader):
        print(f"replaced  {replaced} images, which cannot be read, by others")
    features = {"backbone": torch.cat(backbone)}
    if projector:
        features["projector"] = torch.cat(projector)
    return features, torch.cat(targets)
