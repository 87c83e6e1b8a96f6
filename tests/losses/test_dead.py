"""Columns without variance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mixbt_plugin.losses import dead_columns
from tests.embeddings import LOSSES, random_views

CONSTANTS = [0.0, 1.0, 0.7, 0.1, -3e4]


def with_constant(name: str, constant: float) -> list[Tensor]:
    views = [z.detach().float() for z in random_views(LOSSES[name][0], 64, 5)]
    for z in views:
        z[:, 2] = constant
    return [z.requires_grad_() for z in views]


@pytest.mark.parametrize("constant", [*CONSTANTS, 3e8])
@pytest.mark.parametrize("n", [2, 7, 256, 4096])
def test_a_column_is_dead_for_every_constant_alike(constant: float, n: int) -> None:
    z = torch.randn(n, 3)
    z[:, 1] = constant
    assert dead_columns(z).tolist() == [False, True, False]
    # What one unit in the last place up or down makes of it is rounding too.
    z[::2, 1] = torch.nextafter(z[::2, 1], torch.tensor(float("inf")))
    assert dead_columns(z).tolist() == [False, True, False]
    z[:, 1] = constant + (1e-2 * abs(constant) or 1e-4) * (torch.arange(n) % 5)
    assert not dead_columns(z).any()


@pytest.mark.parametrize("constant", CONSTANTS)
@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_dead_column_gets_no_gradient_without_eps(name: str, impl: str, constant: float) -> None:
    views = with_constant(name, constant)
    value = LOSSES[name][1](views, eps=0.0, impl=impl).loss
    gradients = torch.autograd.grad(value, views)
    assert value.isfinite()
    for gradient in gradients:
        assert gradient.isfinite().all()
        # VICReg's covariance with a column that is 0 but for rounding has a gradient of that size.
        assert gradient[:, 2].abs().max() <= 1e-6 * gradient.abs().max()
        assert gradient[:, [0, 1, 3, 4]].abs().sum(dim=0).min() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_all_constants_give_the_same_loss(name: str) -> None:
    found = [LOSSES[name][1](with_constant(name, c), eps=0.0).loss for c in (0.0, 0.7)]
    torch.testing.assert_close(*found, rtol=1e-5, atol=0)
