"""Weighted k-nearest-neighbour accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from mixbt_plugin.evaluation.accuracy import balanced_accuracy

DISTANCES = ("cosine", "euclidean")
EPSILON = 1e-5
"""Added to the euclidean distance, as in solo-learn."""
SIMILARITIES_AT_A_TIME = 5_000_000
NO_GUESS = -1


class LabelledFeatures(NamedTuple):
    """Features (N, F) and their classes (N,)."""

    features: Tensor
    targets: Tensor


class KNNScores(NamedTuple):
    """Accuracies in percent.

    Attributes:
        acc1: share of the images whose class got the most votes.
        acc5: share of the images whose class is among the five with the most votes. A class
            without a vote is no guess, so that with k = 1 it equals ``acc1``.
        balanced_acc1: ``acc1`` of each class, averaged over the classes.
    """

    acc1: float
    acc5: float
    balanced_acc1: float


@torch.no_grad()
def knn_scores(
    test: LabelledFeatures,
    train: LabelledFeatures | None,
    *,
    k: int = 20,
    distance: str = "cosine",
    temperature: float = 0.07,
) -> KNNScores:
    """Scores of a vote among the k nearest training features.

    As in solo-learn (solo/utils/knn.py), a neighbour's vote weighs
    ``exp(cosine similarity / temperature)``, or ``1 / (euclidean distance + 1e-5)``.

    Args:
        test: what is classified.
        train: the neighbours; None takes ``test`` itself and leaves out each image's own vote.
        k: number of neighbours; all of them where there are fewer.
        distance: ``"cosine"`` or ``"euclidean"``.
        temperature: for the cosine distance.

    Returns:
        The scores.

    Raises:
        ValueError: ``distance`` is neither.

    Example:
        >>> import torch
        >>> train = LabelledFeatures(torch.eye(3), torch.tensor([0, 1, 2]))
        >>> test = LabelledFeatures(torch.eye(3) + 0.1, torch.tensor([0, 1, 1]))
        >>> round(knn_scores(test, train, k=1).acc1, 1)
        66.7
    """
    check_distance(distance)
    leave_one_out = train is None
    neighbours = test if train is None else train
    num_classes = 1 + int(max(test.targets.max(), neighbours.targets.max()))
    k = min(k, len(neighbours.targets) - leave_one_out)
    guesses = []
    chunk = max(1, SIMILARITIES_AT_A_TIME // len(neighbours.targets))
    for start in range(0, len(test.targets), chunk):
        similarity = _similarity(
            test.features[start : start + chunk].float(), neighbours.features.float(), distance
        )
        if leave_one_out:
            similarity.diagonal(start).fill_(-torch.inf)
        nearest, places = similarity.topk(k)
        weights = _weights(nearest, temperature) if distance == "cosine" else nearest
        guesses.append(_ranked_classes(weights, neighbours.targets[places], num_classes))
    ranked = torch.cat(guesses)
    right = ranked == test.targets[:, None]
    return KNNScores(
        100 * right[:, 0].double().mean().item(),
        100 * right.any(dim=1).double().mean().item(),
        balanced_accuracy(ranked[:, 0], test.targets, num_classes),
    )


def check_distance(distance: str) -> None:
    """Raises ValueError unless it is one of `DISTANCES`."""
    if distance not in DISTANCES:
        raise ValueError(f"distance={distance!r}: expected one of {', '.join(DISTANCES)}.")


def _similarity(test: Tensor, train: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        return F.normalize(test) @ F.normalize(train).T
    return 1 / (torch.cdist(test, train) + EPSILON)


def _weights(similarity: Tensor, temperature: float) -> Tensor:
    # Relative to the nearest, and in float64: exp(1 / 0.01) is more than float32 holds, and votes
    # that are all infinite elect the first class, as they do in solo-learn.
    return ((similarity - similarity[:, :1]).double() / temperature).exp()


def _ranked_classes(weights: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """The five classes with the most votes, in order; `NO_GUESS` where fewer got one."""
    votes = weights.new_zeros(len(weights), num_classes).scatter_add_(1, classes, weights)
    voted = torch.zeros_like(votes, dtype=torch.bool).scatter_(1, classes, True)
    ranked = votes.masked_fill(~voted, -torch.inf).topk(min(5, num_classes))
    return ranked.indices.masked_fill(ranked.values == -torch.inf, NO_GUESS)


class OnlineKNN(Metric):
    """`knn_scores` of features that are collected while a backbone is trained and validated.

    Args:
        k: number of neighbours.
        distance: ``"cosine"`` or ``"euclidean"``.
        temperature: for the cosine distance.
        leave_one_out: the neighbours are the other test features; there is no train side.

    Attributes:
        scores: all that the last `compute` found; None where a side was empty.

    Raises:
        ValueError: ``distance`` is neither.
    """

    full_state_update = False
    train_features: Any
    train_targets: Any
    test_features: Any
    test_targets: Any

    def __init__(
        self,
        k: int = 20,
        distance: str = "cosine",
        temperature: float = 0.07,
        leave_one_out: bool = False,
    ) -> None:
        super().__init__()
        check_distance(distance)
        self.k = k
        self.distance = distance
        self.temperature = temperature
        self.leave_one_out = leave_one_out
        self.scores: KNNScores | None = None
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

    def compute(self) -> tuple[float, float]:
        """Accuracies @1 and @5, which is what a host's method takes; -1 while a side is empty."""
        self.scores = None
        train, test = self._side("train"), self._side("test")
        if test is None or (train is None and not self.leave_one_out):
            return -1.0, -1.0
        self.scores = knn_scores(
            test, train, k=self.k, distance=self.distance, temperature=self.temperature
        )
        return self.scores.acc1, self.scores.acc5

    def _side(self, split: str) -> LabelledFeatures | None:
        features, targets = getattr(self, f"{split}_features"), getattr(self, f"{split}_targets")
        if not len(features):
            return None
        return LabelledFeatures(dim_zero_cat(features), dim_zero_cat(targets))
