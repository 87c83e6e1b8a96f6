"""Halves of symmetric products, and the losses of batches that are multiplied block by block."""

from __future__ import annotations

import pytest
import torch

from mixbt_plugin.functional import columns
from mixbt_plugin.functional.symmetric import add_lower_, computed_share, mirror_lower_
from tests.embeddings import LOSSES, random_views, value_and_gradient


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 300, 515])
def test_product(rows: int) -> None:
    z = torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = torch.zeros(rows, rows, dtype=torch.float64)
    for part in (z[:, :2], z[:, 2:]):
        add_lower_(product, part)
    mirror_lower_(product)
    torch.testing.assert_close(product, z @ z.T, rtol=1e-13, atol=1e-13)


def test_five_eighths_are_computed() -> None:
    assert computed_share(64) == 1
    assert computed_share(256) == 0.75
    assert computed_share(512) == computed_share(4096) == 0.625


@pytest.mark.parametrize("name", LOSSES)
def test_several_blocks_of_rows_and_of_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "KEPT_NUMBERS", 1)
    monkeypatch.setattr(columns, "BLOCK_NUMBERS", 1)
    count, loss = LOSSES[name]
    views = random_views(count, 520, 600)
    gram, dense = (value_and_gradient(loss, views, impl=impl) for impl in ("gram", "dense"))
    for ours, expected in zip(gram, dense):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-13)
