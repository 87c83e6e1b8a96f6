"""The losses on a pretended CUDA device, forward and backward, under autocast too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from mixbt_plugin import losses
from tests.embeddings import LOSSES
from tests.pretended_cuda import (
    HostWaitsError,
    MixedTypesError,
    Watch,
    autocast,
    gradients,
    pretended_cuda,
)

pytestmark = pytest.mark.usefixtures("pretended_cuda")
__all__ = ["pretended_cuda"]
HALVES = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def tf32_is_allowed() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def embeddings(count: int, n: int, d: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [
        torch.empty(n, d, dtype=dtype, device="cuda:0", requires_grad=True) for _ in range(count)
    ]


def walk(loss: Callable[[], Any], views: list[Tensor], half: torch.dtype | None) -> None:
    """Forward and backward as in a training step: autocast is on in the forward alone."""
    with Watch() as watch:
        with autocast(half):
            terms = loss()
        found = gradients(terms.loss)
    assert all(term.device.type == "cuda" and not term.dim() for term in terms)
    assert all(term.dtype == torch.float32 for term in terms)
    assert {id(z) for z in found} == {id(z) for z in views}
    assert watch.sent == 0
    assert watch.products == {torch.float32}
    assert not watch.tf32
    if views[0].dtype == torch.float32:
        assert watch.computed == {torch.float32}


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize(
    "dtype,half", [(torch.float32, torch.float16), (torch.bfloat16, torch.bfloat16)]
)
@pytest.mark.parametrize("name", LOSSES)
def test_forward_and_backward(name: str, impl: str, dtype: torch.dtype, half: torch.dtype) -> None:
    count, loss = LOSSES[name]
    views = embeddings(count, 600, 700, dtype)
    perm: Any = {"perm": torch.zeros(600, dtype=torch.int64, device="cuda:0")}
    kwargs = perm if name.startswith("mixed") else {}
    walk(lambda: loss(views, impl=impl, **kwargs), views, half)


@pytest.mark.parametrize("shape", [(), (8,)])
@pytest.mark.parametrize("target", ["paper", "imagenet-code"])
def test_a_mixing_coefficient_on_the_device(shape: tuple[int, ...], target: Any) -> None:
    views = embeddings(3, 8, 20)
    mix = torch.empty(shape, device="cuda:0")
    perm = torch.zeros(8, dtype=torch.int64, device="cuda:0")
    walk(
        lambda: losses.mixed_barlow_twins_loss(*views, perm=perm, mix=mix, target=target),
        views,
        torch.bfloat16,
    )


BY_KEYWORD: dict[str, tuple[int, Callable[..., Any]]] = {
    "barlow_twins": (2, lambda z: losses.barlow_twins_loss(z_a=z[0], z_b=z[1])),
    "hsic_ssl": (2, lambda z: losses.hsic_ssl_loss(z_a=z[0], z_b=z[1], lamb=0.1)),
    "mixed": (
        3,
        lambda z: losses.mixed_barlow_twins_loss(
            z_a=z[0],
            z_b=z[1],
            z_m=z[2],
            perm=torch.zeros(8, dtype=torch.int64, device="cuda:0"),
            mix=0.3,
        ),
    ),
    "multiview_barlow_twins": (3, lambda z: losses.multiview_barlow_twins_loss(views=z)),
    "multiview_vicreg": (3, lambda z: losses.multiview_vicreg_loss(views=z)),
}


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("name", BY_KEYWORD)
def test_arguments_by_keyword_under_autocast(name: str, dtype: torch.dtype) -> None:
    count, loss = BY_KEYWORD[name]
    views = embeddings(count, 8, 20, dtype)
    walk(lambda: loss(views), views, torch.float16)


class Faulty(torch.autograd.Function):
    """What must not be, in the backward pass alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fault: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.fault = fault
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.fault(grads[0]), None


FAULTS: dict[str, tuple[Any, type[Exception]]] = {
    "cpu": (lambda x: x.cpu().cuda(0), HostWaitsError),
    "item": (lambda x: x * x.sum().item(), DataDependentOutputException),
    "branch": (lambda x: x if x.isfinite().all() else -x, DataDependentOutputException),
    "half product": (lambda x: (x.half() @ x.half().T @ x.half()).float(), AssertionError),
    "mixed product": (lambda x: x @ (x.T @ x).half(), MixedTypesError),
    "half sum": (lambda x: x + x.half().exp(), AssertionError),
}


def test_the_watch_sees_tf32() -> None:
    x = torch.empty(3, 3, device="cuda:0")
    with Watch() as watch:
        x @ x
    assert watch.tf32


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_watch_sees_planted_faults(name: str, where: str) -> None:
    fault, error = FAULTS[name]
    views = embeddings(2, 8, 20)

    def loss() -> Any:
        z_a = fault(views[0]) if where == "forward" else Faulty.apply(views[0], fault)
        return losses.barlow_twins_loss(z_a, views[1])

    with pytest.raises(error):
        walk(loss, views, None)
