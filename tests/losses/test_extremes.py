"""The smallest batches, constant dimensions, and numbers at the ends of their ranges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.embeddings import LOSSES, random_views, value_and_gradient

every_loss = pytest.mark.parametrize("name", LOSSES)


def finite(name: str, views: list[Tensor], **kwargs: Any) -> None:
    value, gradient = value_and_gradient(LOSSES[name][1], views, **kwargs)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("n,d", [(2, 1), (2, 7), (5, 1)])
def test_two_rows_and_one_dimension(name: str, n: int, d: int, impl: str) -> None:
    finite(name, random_views(LOSSES[name][0], n, d), impl=impl)


@every_loss
@pytest.mark.parametrize("constant", ["a dimension", "all images"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_constant_dimensions(name: str, constant: str, dtype: torch.dtype) -> None:
    views = []
    for z in random_views(LOSSES[name][0], 6, 4):
        rows = z.detach().clone()
        rows[:, 0 if constant == "a dimension" else slice(None)] = 0.7
        views.append(rows.to(dtype).requires_grad_())
    finite(name, views)


@every_loss
def test_what_float16_can_just_hold(name: str) -> None:
    # VICReg's gradient grows with the cube of the embeddings, and is float16 too.
    largest = 30 if "vicreg" in name else 6e4
    views = [
        (largest * z.detach() / z.detach().abs().max()).half().requires_grad_()
        for z in random_views(LOSSES[name][0], 8, 32)
    ]
    finite(name, views)


@every_loss
def test_what_overflowed_in_float16_is_refused(name: str) -> None:
    views = [
        (1e5 * z.detach()).half().requires_grad_() for z in random_views(LOSSES[name][0], 8, 9)
    ]
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        LOSSES[name][1](views)


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-20, -1e-20, 1e15, -1e15, 3e38, -3e38])


@every_loss
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_finite_loss_and_gradient_or_a_refusal(name: str, data: Any) -> None:
    count, loss = LOSSES[name]
    n, d = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 5))
    numbers = st.lists(NUMBERS | st.floats(-9, 9, width=32), min_size=n * d, max_size=n * d)
    views = [torch.tensor(data.draw(numbers)).view(n, d).requires_grad_() for _ in range(count)]
    try:
        value = loss(views).loss
    except FloatingPointError:
        return
    gradient = torch.stack(torch.autograd.grad(value, views))
    assert value.isfinite()
    assert gradient.isfinite().all()
