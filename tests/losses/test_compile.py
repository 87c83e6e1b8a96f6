"""`torch.compile` takes a loss into its graph, whole from PyTorch 2.14 on, and changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.embeddings import LOSSES, random_views
from tests.versions import is_older, since

WHOLE = not is_older("torch", "2.14")
"""Older versions break the graph, and compute the same."""
# One of each kind of loss is compiled at each change, the others where slow tests are.
KINDS = ("mixed_paper", "multiview_all", "vicreg_mean")
CASES = [
    pytest.param(name, impl, marks=() if name in KINDS else pytest.mark.slow)
    for impl in ("gram", "dense")
    for name in LOSSES
    if impl == "gram" or name in KINDS
]


@since("torch", "2.9", "older ones fail in what they break the graph into")
@pytest.mark.parametrize(("name", "impl"), CASES)
def test_compiled_equals_eager(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 8)

    def of_projections(factor: Tensor) -> Tensor:
        found: Tensor = loss([z * factor + 1 for z in views], impl=impl).loss
        return 2 * found

    factor = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    torch.compiler.reset()
    compiled = torch.compile(of_projections, backend="aot_eager", fullgraph=WHOLE)
    found, expected = (
        (value, *torch.autograd.grad(value, [factor, *views]))
        for value in (compiled(factor), of_projections(factor))
    )
    for ours, wanted in zip(found, expected):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)
