"""Features of a frozen network."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from mixbt_plugin.apps.loaders import views_loader
from mixbt_plugin.apps.printing import say
from mixbt_plugin.data import (
    NetworkImages,
    count_replaced,
    evaluation_datasets,
    has_training_labels,
    still_transform,
    validation_dataset,
)
from mixbt_plugin.evaluation import LabelledFeatures


class SplitFeatures(NamedTuple):
    """Features by their kind, (N, F) each, and classes (N,), on the CPU."""

    features: dict[str, Tensor]
    targets: Tensor

    def only(self, which: Tensor) -> SplitFeatures:
        """Those that flags (N,) choose."""
        chosen = {kind: features[which] for kind, features in self.features.items()}
        return SplitFeatures(chosen, self.targets[which])

    def labelled(self, kind: str) -> LabelledFeatures:
        """Features of one kind with their classes."""
        return LabelledFeatures(self.features[kind], self.targets)


class DatasetFeatures(NamedTuple):
    """Those of both splits; of training images without labels there are none."""

    train: SplitFeatures | None
    test: SplitFeatures


def extract_features(
    model: Any,
    cfg: DictConfig,
    images: NetworkImages,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> DatasetFeatures:
    """Passes the labelled training and validation images, not augmented, through a method.

    Args:
        model: a method in evaluation mode.
        cfg: with ``data``: the data set and its paths.
        images: their size and statistics.
        batch_size: images at a time.
        num_workers: processes that read images.
        device: where the network runs.

    Returns:
        ``backbone`` features (N, F) and, where the method has a projector, ``projector`` (N, D).
    """
    still = still_transform(cfg.data.dataset, images)

    def extract(split: Any) -> SplitFeatures:
        loader = DataLoader(split, batch_size=batch_size, num_workers=num_workers)
        found = _extract(model.to(device), loader, torch.device(device))
        # Not one that stands for another: a copy would be its own nearest neighbour.
        read = ~split.replaced
        if left_out := count_replaced(loader):
            say("left out", f"{left_out} images, which cannot be read")
        return found.only(read)

    if not has_training_labels(cfg):
        return DatasetFeatures(None, extract(validation_dataset(cfg, still)))
    train, test = evaluation_datasets(cfg, still, still)
    return DatasetFeatures(extract(train), extract(test))


@torch.no_grad()
def _extract(model: Any, loader: DataLoader[Any], device: torch.device) -> SplitFeatures:
    backbone, projector, targets = [], [], []
    for images, classes in tqdm(loader, desc="features", leave=False):
        out = model(images.to(device))
        backbone.append(out["feats"].cpu())
        if "z" in out:
            projector.append(out["z"].cpu())
        targets.append(classes)
    features = {"backbone": torch.cat(backbone)}
    if projector:
        features["projector"] = torch.cat(projector)
    return SplitFeatures(features, torch.cat(targets))


@torch.no_grad()
def averaged_features(model: Any, images: Any, cfg: DictConfig, trainer: Trainer) -> TensorDataset:
    """Passes the views of images through a frozen backbone and averages each image's features.

    Args:
        model: of linear evaluation; is moved to the trainer's device.
        images: a data set of (views, class), of `mixbt_plugin.data.passes_transform`. An image is
            augmented by a seed of its own, so that neither the order nor the number of
            ``data.num_workers`` matters.
        cfg: parsed; in one step go about ``optimizer.batch_size`` views through the backbone.
        trainer: tells device and precision.

    Returns:
        Features (N, F) in float32 and classes (N,), on the CPU, in the data set's order.
    """
    device = trainer.strategy.root_device
    model.to(device).eval()
    loader = views_loader(images, cfg, max(1, cfg.optimizer.batch_size // cfg.feature_passes))
    features, targets = [], []
    for views, classes in tqdm(loader, desc="features", leave=False, disable=None):
        with trainer.precision_plugin.forward_context():
            passes = [model(view.to(device))["feats"] for view in views]
        features.append(torch.stack(passes).float().mean(dim=0).cpu())
        targets.append(classes)
    model.train()
    if replaced := count_replaced(loader):
        say("replaced", f"{replaced} images, which cannot be read, by others")
    return TensorDataset(torch.cat(features), torch.cat(targets))
