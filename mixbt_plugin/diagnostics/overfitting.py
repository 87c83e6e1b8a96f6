"""Whether a training's features get worse while its loss still falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WINDOW = 5
"""Measurements whose mean is compared, so that one bad epoch is no trend."""


class Measured(NamedTuple):
    """One measurement.

    Attributes:
        epoch: after how many epochs.
        quality: of the features, more is better: an accuracy in percent, or an effective rank.
        loss: of the training.
    """

    epoch: int
    quality: float
    loss: float


class Overfitting(NamedTuple):
    """What was found.

    Attributes:
        best_epoch: the epoch of the best single measurement.
        best: its quality.
        fallen: how far the mean quality of the last window is below that of the best window.
        loss_fallen: how far the mean loss fell meanwhile.
    """

    best_epoch: int
    best: float
    fallen: float
    loss_fallen: float


def overfitting(
    history: Sequence[Measured], *, tolerance: float, window: int = WINDOW
) -> Overfitting | None:
    """Looks for overfitting: the features' quality has fallen for a while, the loss still fell.

    The mean of the last ``window`` measurements is held against the best mean of ``window``
    measurements in a row that ended before them.

    Args:
        history: the measurements in order.
        tolerance: how far the quality may fall before it counts, in its own unit.
        window: measurements in a mean.

    Returns:
        What was found; None where the features do not get worse, the loss does not fall, or
        there are fewer than two windows.
    """
    means = [_mean(history[end - window : end]) for end in range(window, len(history) + 1)]
    earlier, last = means[:-window], means[-1:]
    if not earlier:
        return None
    best = max(earlier, key=lambda mean: mean.quality)
    fallen, loss_fallen = best.quality - last[0].quality, best.loss - last[0].loss
    if fallen <= tolerance or loss_fallen <= 0:
        return None
    top = max(history, key=lambda one: one.quality)
    return Overfitting(top.epoch, top.quality, fallen, loss_fallen)


def _mean(part: Sequence[Measured]) -> Measured:
    return Measured(
        part[-1].epoch,
        sum(one.quality for one in part) / len(part),
        sum(one.loss for one in part) / len(part),
    )
