"""How good features are: neighbours, linear probes with many and few labels, and spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbt_plugin.apps.comparison.images import NetworkOutputs
from mixbt_plugin.diagnostics import effective_rank, eigenvalues
from mixbt_plugin.evaluation import LabelledFeatures, knn_scores
from mixbt_plugin.keys import CompareEvaluation

ACCURACIES = ("knn", "linear", "few_labels")
LABELS_SEED = 0
Array = NDArray[Any]


def accuracies(
    references: NetworkOutputs, classified: NetworkOutputs, evaluation: CompareEvaluation
) -> dict[str, float]:
    """Accuracies @1 in percent of frozen features.

    Args:
        references: with the labels that are learned from.
        classified: with the labels that are asked for.
        evaluation: the probes' settings. Which labels the linear probes get is a function of their
            number alone: the same for every arm, seed and epoch.

    Returns:
        ``knn``, by all references, cosine; ``linear``, logistic regression on standardised
        features, L2 with C = 0.1; ``few_labels``, the same by few, a mean over draws.
    """
    train, train_targets = _on_cpu(references)
    test, test_targets = _on_cpu(classified)
    many = _labels(train_targets, evaluation.linear_labels)
    few = [
        _few_labels(train_targets, evaluation.labels_per_class, draw)
        for draw in range(evaluation.draws)
    ]

    def linear(chosen: Array) -> float:
        return _logistic_regression(train[chosen], train_targets[chosen], test, test_targets)

    return {
        "knn": _knn(references, classified, evaluation),
        "linear": linear(many),
        "few_labels": float(np.mean([linear(chosen) for chosen in few])),
    }


def _knn(
    references: NetworkOutputs, classified: NetworkOutputs, evaluation: CompareEvaluation
) -> float:
    return knn_scores(
        LabelledFeatures(classified.features, classified.targets),
        LabelledFeatures(references.features, references.targets),
        k=evaluation.knn_k,
        temperature=evaluation.knn_temperature,
    ).acc1


def _labels(targets: Array, count: int | None) -> Array:
    from sklearn.model_selection import train_test_split

    if count is None or count == len(targets):
        return np.arange(len(targets))
    chosen, _ = train_test_split(
        np.arange(len(targets)), train_size=count, stratify=targets, random_state=LABELS_SEED
    )
    return np.asarray(chosen)


def _few_labels(targets: Array, per_class: int, draw: int) -> Array:
    generator = np.random.default_rng(draw)
    return np.concatenate(
        [
            generator.choice(np.flatnonzero(targets == label), per_class, replace=False)
            for label in np.unique(targets)
        ]
    )


def _logistic_regression(train: Array, targets: Array, test: Array, test_targets: Array) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    return 100 * float(probe.fit(train, targets).score(test, test_targets))


def _on_cpu(features: NetworkOutputs) -> tuple[Array, Array]:
    return features.features.cpu().numpy(), features.targets.cpu().numpy()


def spectra(classified: NetworkOutputs) -> dict[str, Tensor]:
    """Eigenvalues, largest first, as shares of their sum.

    Returns:
        ``features``: of their covariance, (F,); ``embeddings``, where there are any: of their
        correlation matrix, (D,), which the Barlow Twins loss draws to all equal ones.
    """
    found = {"features": eigenvalues(classified.features)}
    if (z := classified.embeddings) is not None:
        found["embeddings"] = eigenvalues(z / z.std(dim=0).clamp_min(torch.finfo(z.dtype).tiny))
    return {name: (values / values.sum()).cpu() for name, values in found.items()}


def ranks(found: dict[str, Tensor]) -> dict[str, float]:
    """How many directions are used alike: effective rank of each of `spectra`."""
    return {f"rank_{name}": float(effective_rank(values)) for name, values in found.items()}
