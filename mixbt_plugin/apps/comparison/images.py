"""The images that a comparison evaluates on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mixbt_plugin.data import (
    Said,
    evaluation_datasets,
    network_images,
    still_transform,
    take_part,
)
from mixbt_plugin.keys import CompareEvaluation
from mixbt_plugin.settings import ConfigError

VALIDATION_SHARE = 6
"""One in six of the labelled training images; of Fashion-MNIST 10,000, as its test split."""
VALIDATION_SEED = 7
KEPT_BYTES = 2**30
BATCH_SIZE = 256


class LabelledSplits(NamedTuple):
    """Images with labels, not augmented: references to learn from, and those to classify."""

    references: Dataset[Any]
    classified: Dataset[Any]
    reference_targets: np.ndarray[Any, np.dtype[np.int64]]


def evaluation_images(cfg: DictConfig, evaluation: CompareEvaluation) -> LabelledSplits:
    """The images of a run.

    Args:
        cfg: parsed config of the pre-training.
        evaluation: ``split: test`` learns from all labelled training images and classifies the test
            images (for data sets without public test labels, the validation images). With
            ``validation``, for choosing among settings, a sixth of the labelled training images,
            stratified, is classified and not learned from; none of it is pre-trained on.

    Raises:
        ValueError: there are too few images or labels.
    """
    images = network_images(cfg.data.dataset, Said("augmentations", cfg.augmentations[0]))
    still = still_transform(cfg.data.dataset, images)
    train, test = evaluation_datasets(cfg, still, still)
    targets = np.asarray(train.targets)  # type: ignore[attr-defined]
    if evaluation.split == "validation":
        held_out = _validation(train, targets, cfg)
        others = np.setdiff1d(np.arange(len(targets)), held_out)
        train, test = Subset(train, others.tolist()), Subset(train, held_out)
        targets = targets[others]
    _require_labels(targets, evaluation)
    return LabelledSplits(train, test, targets)


def _validation(train: Any, targets: Any, cfg: DictConfig) -> list[int]:
    from sklearn.model_selection import train_test_split

    part = take_part(train, cfg).images  # of the readable images
    seen = part.indices if isinstance(part, Subset) else np.arange(len(targets))
    unseen = np.setdiff1d(np.arange(len(targets)), seen)
    wanted = len(targets) // VALIDATION_SHARE
    if cfg.data.dataset == "stl10" or len(unseen) <= wanted:
        raise ConfigError(
            f"evaluation.split='validation' with data.fraction={cfg.data.get('fraction', -1)} of "
            f"{cfg.data.dataset}: pre-training sees {len(seen)} of {len(targets)} labelled images, "
            f"and {wanted} are needed that it does not see. Expected a smaller data.fraction."
        )
    held_out, _ = train_test_split(
        unseen, train_size=wanted, stratify=targets[unseen], random_state=VALIDATION_SEED
    )
    return [int(index) for index in held_out]


def _require_labels(targets: Any, evaluation: CompareEvaluation) -> None:
    fewest = int(np.unique(targets, return_counts=True)[1].min())
    if evaluation.labels_per_class > fewest:
        raise ConfigError(
            f"evaluation.labels_per_class={evaluation.labels_per_class}: a class has only {fewest} "
            "labelled images."
        )
    if evaluation.linear_labels is not None and evaluation.linear_labels > len(targets):
        raise ConfigError(
            f"evaluation.linear_labels={evaluation.linear_labels}: there are only {len(targets)} "
            "labelled images; null takes all."
        )


class Batches:
    """Batches of images and classes; read once where they are small enough to be kept.

    Args:
        images: a data set of (image, class).
        num_workers: processes that read images.
    """

    def __init__(self, images: Dataset[Any], num_workers: int) -> None:
        self._loader: Any = DataLoader(images, batch_size=BATCH_SIZE, num_workers=num_workers)
        image, _ = images[0]
        size = image.numel() * image.element_size() * len(images)  # type: ignore[arg-type]
        if size <= KEPT_BYTES:
            self._loader = list(self._loader)

    def __iter__(self) -> Any:
        """Images (n, 3, H, W) and classes (n,)."""
        return iter(self._loader)


class NetworkOutputs(NamedTuple):
    """What a network makes of images: features (N, F), embeddings (N, D) or None, classes (N,)."""

    features: Tensor
    embeddings: Tensor | None
    targets: Tensor


@torch.no_grad()
def features_of(model: Any, batches: Batches, device: torch.device) -> NetworkOutputs:
    """Passes images through a method in evaluation mode; the result stays on the device."""
    features, embeddings, targets = [], [], []
    for images, classes in batches:
        out = model(images.to(device))
        features.append(out["feats"].float())
        targets.append(classes.to(device))
        if "z" in out:
            embeddings.append(out["z"].float())
    return NetworkOutputs(
        torch.cat(features), torch.cat(embeddings) if embeddings else None, torch.cat(targets)
    )
