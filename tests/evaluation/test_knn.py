"""Weighted kNN, against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from mixbt_plugin.evaluation import LabelledFeatures, OnlineKNN, knn, knn_scores

WEIGHTS: dict[str, Any] = {
    "cosine": lambda temperature: lambda d: np.exp((1 - d) / temperature),
    "euclidean": lambda temperature: lambda d: 1 / (d + 1e-5),
}


def clusters(count: int, seed: int) -> LabelledFeatures:
    """Features around 9 centres; the first classes have more images than the last."""
    centres = np.random.default_rng(0).normal(size=(9, 10))
    rng = np.random.default_rng(seed)
    classes = (9 * rng.random(count) ** 2).astype(np.int64)
    features = (centres[classes] + rng.normal(size=(count, 10))).astype(np.float32)
    return LabelledFeatures(torch.from_numpy(features), torch.from_numpy(classes))


def votes_of_scikit_learn(
    test: Any, train: Any, k: int, distance: str, temperature: float
) -> np.ndarray:
    """In float64; a class without a vote has 0."""
    reference = KNeighborsClassifier(
        k, weights=WEIGHTS[distance](temperature), metric=distance, algorithm="brute"
    )
    features, classes = (tensor.numpy() for tensor in train)
    reference.fit(features.astype(float), classes)
    votes: np.ndarray = reference.predict_proba(test.features.numpy().astype(float))
    return votes


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 2, 5, 1000])
@pytest.mark.parametrize("temperature", [0.3, 0.005])
def test_scores_are_scikit_learns(
    distance: str, k: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exp(1 / 0.005) fits float64, in which the reference computes, and not float32."""
    monkeypatch.setattr(knn, "SIMILARITIES_AT_A_TIME", 700)
    train, test = clusters(200, 1), clusters(100, 2)
    found = knn_scores(test, train, k=k, distance=distance, temperature=temperature)
    votes = votes_of_scikit_learn(test, train, min(k, 200), distance, temperature)
    ranked = np.argsort(-votes, axis=1)[:, :5]
    voted = np.take_along_axis(votes, ranked, axis=1) > 0
    targets = test.targets.numpy()
    hits = (ranked == targets[:, None]) & voted
    assert found.acc1 == pytest.approx(100 * hits[:, 0].mean(), abs=1e-4)
    assert found.acc5 == pytest.approx(100 * hits.any(axis=1).mean(), abs=1e-4)
    balanced = balanced_accuracy_score(targets, ranked[:, 0])
    assert found.balanced_acc1 == pytest.approx(100 * balanced, abs=1e-4)
    assert abs(found.balanced_acc1 - found.acc1) > 0.1


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_class_without_a_vote_is_no_guess(distance: str) -> None:
    train, test = clusters(200, 1), clusters(100, 2)
    one = knn_scores(test, train, k=1, distance=distance)
    assert one.acc5 == one.acc1
    online = OnlineKNN(k=1, distance=distance)
    online.update(*train, *test)
    assert online.compute() == (one.acc1, one.acc1)
    assert online.scores == one


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_leave_one_out(distance: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image classified by the others, over several chunks of rows."""
    monkeypatch.setattr(knn, "SIMILARITIES_AT_A_TIME", 700)
    images = clusters(60, 1)
    expected = []
    for left_out in range(60):
        others = torch.arange(60) != left_out
        one = LabelledFeatures(*(tensor[left_out : left_out + 1] for tensor in images))
        rest = LabelledFeatures(*(tensor[others] for tensor in images))
        expected.append(knn_scores(one, rest, k=k, distance=distance)[:2])
    found = knn_scores(images, None, k=k, distance=distance)
    assert found[:2] == pytest.approx(torch.tensor(expected).double().mean(dim=0).tolist())


def test_the_online_knn_asks_for_both_sides() -> None:
    online = OnlineKNN()
    online.update(*clusters(20, 1))
    assert online.compute() == (-1.0, -1.0)


def test_an_unknown_distance_is_refused() -> None:
    message = "distance='manhattan': expected one of cosine, euclidean"
    with pytest.raises(ValueError, match=message):
        OnlineKNN(distance="manhattan")
    with pytest.raises(ValueError, match=message):
        knn_scores(clusters(20, 1), None, distance="manhattan")
