"""Weighted k-nearest-neighbour accuracy."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

DISTANCES = ("cosine", "euclidean")


class WeightedKNNClassifier(Metric):
    """Accuracy of a vote among the k nearest training features.

    As in solo-learn (solo/utils/knn.py), a neighbour weighs ``exp(cosine similarity / T)``, or
    ``1 / (euclidean distance + epsilon)``.

    Args:
        k: number of neighbours; all training features where there are fewer.
        T: temperature, for the cosine distance.
        distance_fx: ``"cosine"`` or ``"euclidean"``.
        epsilon: added to the euclidean distance.
        max_distance_matrix_size: how many distances are held at a time.
    """

    full_state_update = False
    train_features: Any
    train_targets: Any
    test_features: Any
    test_targets: Any

    def __init__(
        self,
        k: int = 20,
        T: float = 0.07,  # noqa: N803
        distance_fx: str = "cosine",
        epsilon: float = 1e-5,
        max_distance_matrix_size: int = 5_000_000,
    ) -> None:
        super().__init__()
        if distance_fx not in DISTANCES:
            raise ValueError(f"distance_fx={distance_fx!r}: expected one of {DISTANCES}.")
        self.k = k
        self.T = T
        self.distance_fx = distance_fx
        self.epsilon = epsilon
        self.max_distance_matrix_size = max_distance_matrix_size
        for split in ("train", "test"):
            self.add_state(f"{split}_features", default=[], dist_reduce_fx="cat")
            self.add_state(f"{split}_targets", default=[], dist_reduce_fx="cat")

    def update(
        self,
        train_features: Tensor | None = None,
        train_targets: Tensor | None = None,
        test_features: Tensor | None = None,
        test_targets: Tensor | None = None,
    ) -> None:
        """Adds features (N, F) and their classes (N,) to either side."""
        if train_features is not None and train_targets is not None:
            self.train_features.append(train_features.detach())
            self.train_targets.append(train_targets)
        if test_features is not None and test_targets is not None:
            self.test_features.append(test_features.detach())
            self.test_targets.append(test_targets)

    @torch.no_grad()
    def compute(self) -> tuple[float, float]:
        """Accuracies @1 and @5 in percent, (-1, -1) while a side is empty."""
        if not len(self.train_features) or not len(self.test_features):
            return -1.0, -1.0
        train, targets = dim_zero_cat(self.train_features), dim_zero_cat(self.train_targets)
        test, test_targets = dim_zero_cat(self.test_features), dim_zero_cat(self.test_targets)
        train, test = train.float(), test.float()
        num_classes = int(max(targets.max(), test_targets.max())) + 1
        rows = max(1, self.max_distance_matrix_size // len(train))
        hits = torch.zeros(2, device=test.device)
        for features, classes in zip(test.split(rows), test_targets.split(rows)):
            votes = self._votes(features, train, targets, num_classes)
            ranked = votes.topk(min(5, num_classes)).indices == classes[:, None]
            hits += torch.stack([ranked[:, 0].sum(), ranked.sum()])
        top1, top5 = (100 * hits / len(test)).tolist()
        return top1, top5

    def _votes(self, test: Tensor, train: Tensor, targets: Tensor, num_classes: int) -> Tensor:
        if self.distance_fx == "cosine":
            similarity = F.normalize(test) @ F.normalize(train).T
        else:
            similarity = 1 / (torch.cdist(test, train) + self.epsilon)
        weights, neighbours = similarity.topk(min(self.k, len(train)))
        if self.distance_fx == "cosine":
            # Relative to the nearest: exp(1 / 0.01) is more than float32 holds, and votes that are
            # all infinite elect the first class, as they do in solo-learn.
            weights = ((weights - weights[:, :1]) / self.T).exp()
        votes = torch.zeros(len(test), num_classes, device=test.device)
        return votes.scatter_add_(1, targets[neighbours], weights)
