"""Products in the precision of their operands, and halves of symmetric ones."""

from __future__ import annotations

import pytest
import torch

from mixbt_plugin.functional.products import computed_share, gram, product
from tests.embeddings import LOSSES, random_views, value_and_gradient


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 300, 515])
def test_half_a_product_is_the_product(rows: int) -> None:
    z = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(z), z @ z.T, rtol=1e-13, atol=1e-13)


def test_derivatives_of_any_order() -> None:
    a, b = random_views(2, 3, 4)
    other = b.detach().T.clone().requires_grad_()
    for function, given in ((product, [a, other]), (gram, [a])):
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)


def test_five_eighths_are_computed() -> None:
    assert computed_share(64) == 1
    assert computed_share(256) == 0.75
    assert computed_share(512) == computed_share(4096) == 0.625


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_several_blocks_of_rows(name: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 520, 600)
    gram_side, dense = (value_and_gradient(loss, views, impl=impl) for impl in ("gram", "dense"))
    for ours, expected in zip(gram_side, dense):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-13)
