"""When a falling quality counts as overfitting."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mixbt_plugin.diagnostics import Measured, Overfitting, overfitting


def curve(
    quality: Callable[[int], float], loss: Callable[[int], float], epochs: int = 100
) -> list[Measured]:
    return [Measured(epoch, quality(epoch), loss(epoch)) for epoch in range(5, epochs, 5)]


def rises_then_falls(epoch: int) -> float:
    return 75 - abs(epoch - 30) / 10


def falls(epoch: int) -> float:
    return 100 / epoch


def test_worse_features_and_a_falling_loss_are_overfitting() -> None:
    found = overfitting(curve(rises_then_falls, falls), tolerance=1)
    assert isinstance(found, Overfitting)
    assert (found.best_epoch, found.best) == (30, 75)
    # The best five: 20 to 40, mean 74.4; the last five: 75 to 95, mean 69.5.
    assert found.fallen == pytest.approx(4.9)


@pytest.mark.parametrize(
    "history",
    [
        curve(lambda epoch: 70 + epoch / 100, falls),
        curve(lambda epoch: 75 + 0.4 * math.sin(epoch), falls),
        curve(rises_then_falls, lambda epoch: epoch),
        curve(rises_then_falls, falls)[:9],
        [],
    ],
    ids=["still better", "noise", "the loss rises", "fewer than two windows", "nothing yet"],
)
def test_what_is_no_overfitting(history: list[Measured]) -> None:
    assert overfitting(history, tolerance=1) is None
