"""Shares of images whose class is guessed right, in percent."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.classification import MulticlassStatScores
from torchmetrics.functional.classification import multiclass_stat_scores

NO_LABEL = -1


def accuracy_at_k(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Percentage of rows whose class is among the k largest logits.

    Not torchmetrics': its top-k builds one-hot matrices, which takes 14 times as long at 256 images
    and 1,000 classes, for every view of every training step.

    Args:
        logits: (N, classes); with fewer classes than k all of them count.
        targets: (N,); a row without a label (-1) counts as wrong, as in solo-learn.
        k: number of guesses.

    Returns:
        Shape (1,), as in solo-learn.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> accuracy_at_k(logits, torch.tensor([0, 1]), k=1).item()
        50.0
    """
    k = min(k, logits.size(1))
    hits = (logits.topk(k).indices == targets[:, None]).any(dim=1)
    return 100 * hits.float().mean()[None]


class BalancedAccuracy(MulticlassStatScores):
    """Accuracy @1 of each class, averaged over the classes, in percent.

    A class counts as much as any other, however many images it has; those without an image do not
    count, as in scikit-learn's ``balanced_accuracy_score``. Images without a label (-1) are left
    out. Exact over batches and processes: the images of each class are counted.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            num_classes=max(2, num_classes),
            average="none",
            ignore_index=NO_LABEL,
            validate_args=False,
        )

    def compute(self) -> Tensor:
        """A 0-dim tensor; not a number where no image has a label."""
        return _mean_over_classes(super().compute())


def balanced_accuracy(guesses: Tensor, targets: Tensor, num_classes: int) -> float:
    """`BalancedAccuracy` of guessed classes (N,) and classes (N,), of this process alone."""
    counts = multiclass_stat_scores(
        guesses,
        targets,
        num_classes=max(2, num_classes),
        average="none",
        ignore_index=NO_LABEL,
        validate_args=False,
    )
    return float(_mean_over_classes(counts))


def _mean_over_classes(counts: Tensor) -> Tensor:
    """Of what torchmetrics counts of each class: the first is the hits, the last the images."""
    right, *_, images = counts.unbind(dim=-1)
    present = images > 0
    return 100 * (right[present].double() / images[present]).mean()
