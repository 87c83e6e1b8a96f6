"""The images that a comparison evaluates on."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mixbt_plugin.apps.measuring import passed
from mixbt_plugin.data import (
    Said,
    evaluation_datasets,
    network_images,
    still_transform,
    take_part,
)
from mixbt_plugin.data.reading import targets_of
from mixbt_plugin.keys import CompareEvaluation
from mixbt_plugin.settings import ConfigError

VALIDATION_SHARE = 6
"""One in six of the labelled training images; of Fashion-MNIST 10,000, as its test split."""
VALIDATION_SEED = 7
Indexes = np.ndarray[Any, np.dtype[np.int64]]
KEPT_BYTES = 2**30
BATCH_SIZE = 256


class LabelledSplits(NamedTuple):
    """Images with labels, not augmented.

    Attributes:
        references: to learn from.
        classified: those that are asked for.
        digest: equal where data set, classes and choice of both are.
    """

    references: Dataset[Any]
    classified: Dataset[Any]
    digest: str


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
    targets = np.asarray(targets_of(train))
    if evaluation.split == "test":
        asked_for = np.asarray(targets_of(test))
    else:
        asked_for = _validation(train, targets, cfg)
        others = np.setdiff1d(np.arange(len(targets)), asked_for)
        train, test = Subset(train, others.tolist()), Subset(train, asked_for.tolist())
        targets = targets[others]
    _require_labels(targets, evaluation)
    said = [cfg.data.dataset, str(evaluation.split), *(x.tolist() for x in (targets, asked_for))]
    return LabelledSplits(train, test, hashlib.sha256(repr(said).encode()).hexdigest())


def _validation(train: Any, targets: Indexes, cfg: DictConfig) -> Indexes:
    """Which labelled training images are held out."""
    from sklearn.model_selection import train_test_split

    if cfg.data.dataset == "stl10":
        raise ConfigError(
            "evaluation.split='validation' with data.dataset='stl10': pre-training draws from all "
            "its images, labelled or not; expected evaluation.split=test."
        )
    part = take_part(train, cfg).images  # of the readable images
    seen = part.indices if isinstance(part, Subset) else np.arange(len(targets))
    unseen = np.setdiff1d(np.arange(len(targets)), seen)
    wanted = len(targets) // VALIDATION_SHARE
    needed = wanted + len(np.unique(targets))  # a stratified draw leaves one of each class
    if len(unseen) < needed:
        listed = cfg.data.get("train_subset")
        of_all = f"data.fraction={cfg.data.get('fraction', -1):g}"
        given = f"data.train_subset={listed!r}" if listed else of_all
        raise ConfigError(
            f"evaluation.split='validation' with {given}: pre-training sees {len(seen)} of "
            f"{len(targets)} labelled images, and {needed} are needed that it does not see. "
            f"Expected {'a shorter list' if listed else 'a smaller data.fraction'}."
        )
    held_out, _ = train_test_split(
        unseen, train_size=wanted, stratify=targets[unseen], random_state=VALIDATION_SEED
    )
    return np.asarray(held_out)


def _require_labels(targets: Indexes, evaluation: CompareEvaluation) -> None:
    counts = np.unique(targets, return_counts=True)[1]
    there = f"there are only {len(targets)} labelled images"
    if len(counts) < 2:
        raise ConfigError(
            "data.train_path: a comparison's probes tell classes apart, and there is one."
        )
    if evaluation.knn_k > len(targets):
        raise ConfigError(f"evaluation.knn_k={evaluation.knn_k}: {there}.")
    if evaluation.labels_per_class > counts.min():
        raise ConfigError(
            f"evaluation.labels_per_class={evaluation.labels_per_class}: a class has only "
            f"{counts.min()} labelled images."
        )
    asked = evaluation.linear_labels
    if asked is None or asked == len(targets):
        return
    if asked > len(targets):
        raise ConfigError(f"evaluation.linear_labels={asked}: {there}; null takes all.")
    if not len(counts) <= asked <= len(targets) - len(counts):
        raise ConfigError(
            f"evaluation.linear_labels={asked}: a stratified draw takes and leaves at least one of "
            f"each class; expected {len(counts)} to {len(targets) - len(counts)}, or null for all."
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
def features_of(trainer: Trainer, model: Any, batches: Batches) -> NetworkOutputs:
    """Passes images through a method in evaluation mode; the result stays on the device."""
    features, embeddings, targets = [], [], []
    for images, classes in batches:
        out = passed(trainer, model, images)
        features.append(out["feats"].float())
        targets.append(classes.to(model.device))
        if "z" in out:
            embeddings.append(out["z"].float())
    return NetworkOutputs(
        torch.cat(features), torch.cat(embeddings) if embeddings else None, torch.cat(targets)
    )
