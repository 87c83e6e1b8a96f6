"""What PyTorch can do with a function, it can do with a loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tests.embeddings import LOSSES, random_views, value_and_gradient
from tests.losses.statements import STATEMENTS
from tests.versions import since

every_loss = pytest.mark.parametrize("name", LOSSES)
both_impls = pytest.mark.parametrize("impl", ["gram", "dense"])
matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


def assert_close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    for ours, wanted in zip(found, expected):
        assert (ours - wanted).norm() <= tolerance * wanted.norm()


@every_loss
@both_impls
def test_hessian_vector_product_is_that_of_a_dense_statement(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 7, 9)
    directions = [z.detach().cos() for z in views]

    def product(value: Tensor) -> list[Tensor]:
        gradient = torch.autograd.grad(value, views, create_graph=True)
        along = torch.stack([(g * v).sum() for g, v in zip(gradient, directions)]).sum()
        return [value, *gradient, *torch.autograd.grad(along, views)]

    assert_close(product(loss(views, impl=impl).loss), product(STATEMENTS[name](views)))


@every_loss
@both_impls
def test_gradgradcheck(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 4, 3)
    assert torch.autograd.gradgradcheck(
        lambda *z: loss(z, impl=impl).loss, views, fast_mode=True, atol=1e-4
    )


@every_loss
@both_impls
def test_checkpointing(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 8)

    def of_views(*zs: Tensor) -> Tensor:
        return loss(zs, impl=impl).loss

    value = checkpoint(of_views, *views, use_reentrant=False)
    expected, gradient = value_and_gradient(loss, views, impl=impl)
    assert torch.equal(value, expected)
    assert torch.equal(torch.stack(torch.autograd.grad(value, views)), gradient)


@contextmanager
def fake_tensors() -> Iterator[None]:
    with FakeTensorMode():
        yield


@contextmanager
def another_default_device() -> Iterator[None]:
    with torch.device("meta"):
        yield


@every_loss
@both_impls
@pytest.mark.parametrize("mode", [fake_tensors, another_default_device])
def test_a_call_without_values_leaves_later_calls_right(name: str, impl: str, mode: Any) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 8)
    expected = value_and_gradient(loss, views, impl=impl)
    perm = {"perm": torch.arange(6)} if name.startswith("mixed") else {}
    with mode():
        if "mixed" in name:
            perm = {"perm": torch.arange(6)}
        found = loss([torch.empty(6, 8) for _ in range(count)], impl=impl, **perm)
        assert found.loss.shape == ()
    for found, wanted in zip(value_and_gradient(loss, views, impl=impl), expected):
        assert torch.equal(found, wanted)


class Loss(nn.Module):
    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__()
        self.name, self.settings = name, settings

    def forward(self, *views: Tensor) -> Tensor:
        found: Tensor = LOSSES[self.name][1](views, **self.settings).loss
        return found


@since("torch", "2.9", "its export follows what the checks are made of")
@every_loss
@both_impls
def test_export(name: str, impl: str) -> None:
    views = tuple(random_views(LOSSES[name][0], 6, 8))
    module = Loss(name, impl=impl)
    exported = torch.export.export(module, views).module()
    torch.testing.assert_close(exported(*views), module(*views), rtol=1e-12, atol=0)


def squares(gradients: Any) -> Tensor:
    return torch.stack([g.square().sum() for g in gradients]).sum()


class Rounding(TorchDispatchMode):
    """Products of 10 bits, as TF32's, wherever they are allowed for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS and matmul.fp32_precision != "ieee":
            args = [(x.view(torch.int32) & ~0x1FFF).view(torch.float32) for x in args]
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(matmul is None, reason="before PyTorch 2.9 it cannot be read")
@every_loss
@both_impls
def test_float32_products_where_tf32_is_allowed_as_emulated_on_a_cpu(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 8, torch.float32)
    torch.set_float32_matmul_precision("high")
    try:
        with Rounding():
            value = loss(views, impl=impl).loss
            gradient = torch.autograd.grad(value, views, create_graph=True)
            second = torch.autograd.grad(squares(gradient), views)
            rounded = torch.ones(1, 1) * (1 + 2**-20) @ torch.ones(1, 1)
        assert rounded == 1  # the emulation does round
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    doubles = [z.detach().double().requires_grad_() for z in views]
    exact = loss(doubles, impl=impl).loss
    gradients = torch.autograd.grad(exact, doubles, create_graph=True)
    seconds = torch.autograd.grad(squares(gradients), doubles)
    assert_close([value.double()], [exact], 1e-5)
    assert_close([g.double() for g in gradient], gradients, 1e-4)
    assert_close([g.double() for g in second], seconds, 1e-4)


@every_loss
@both_impls
def test_backward_inside_autocast(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 8, 12, torch.float32)
    expected = value_and_gradient(loss, views, impl=impl)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = value_and_gradient(loss, views, impl=impl)
    for ours, wanted in zip(found, expected):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("name", ["barlow_twins_loss", "hsic_ssl_loss", "mixed_barlow_twins_loss"])
def test_embeddings_by_keyword_are_computed_in_float32_too(name: str) -> None:
    from mixbt_plugin import losses

    keys = ("z_a", "z_b", "z_m")[: 3 if "mixed" in name else 2]
    kwargs: dict[str, Any] = {"lamb": 0.01}
    if "mixed" in name:
        kwargs |= {"perm": torch.arange(8), "mix": 0.3}
    views = [z.detach().bfloat16() for z in random_views(3, 8, 12)]
    by_keyword = getattr(losses, name)(**dict(zip(keys, views)), **kwargs).loss
    by_position = getattr(losses, name)(*views[: len(keys)], **kwargs).loss
    assert by_keyword.dtype == torch.float32
    assert torch.equal(by_keyword, by_position)
