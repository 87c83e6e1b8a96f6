"""Accuracies, against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from mixbt_plugin.evaluation import BalancedAccuracy, accuracy_at_k


@pytest.mark.parametrize("classes,k,counted", [(8, 1, 1), (8, 5, 5), (3, 5, 3)])
def test_accuracy_at_k_is_scikit_learns(classes: int, k: int, counted: int) -> None:
    logits, targets = torch.randn(60, classes), torch.arange(60) % classes
    expected = top_k_accuracy_score(targets, logits, k=counted, labels=range(classes))
    assert accuracy_at_k(logits, targets, k).tolist() == pytest.approx([100 * expected])


# torchmetrics' own macro average counts a class that has no image, once it is guessed, as 0.
@pytest.mark.parametrize("present", [4, 6])
def test_balanced_accuracy_over_batches_is_scikit_learns(present: int) -> None:
    logits = torch.randn(90, 6)
    targets = torch.randint(present, (90,)) * torch.randint(2, (90,))
    metric = BalancedAccuracy(6)
    for start in (0, 50):
        metric.update(logits[start : start + 50], targets[start : start + 50])
    metric.update(torch.randn(5, 6), torch.full((5,), -1))
    with pytest.warns() if present < 6 else pytest.MonkeyPatch.context():
        expected = balanced_accuracy_score(targets, logits.argmax(dim=1))
    assert float(metric.compute()) == pytest.approx(100 * expected)
