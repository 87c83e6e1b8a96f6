"""Inputs that a loss cannot take are refused with what is wrong and where."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixbt_plugin.losses import (
    barlow_twins_loss,
    hsic_ssl_loss,
    mixed_barlow_twins_loss,
    multiview_barlow_twins_loss,
    multiview_vicreg_loss,
)
from tests.embeddings import LOSSES

Z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "z_a,z_b,error,message",
    [
        (Z, Z[:, :2], ValueError, r"z_b has shape \(4, 2\) but z_a \(4, 3\)"),
        (Z, Z[:3], ValueError, r"z_b has shape \(3, 3\) but z_a \(4, 3\)"),
        (Z[:1], Z[:1], ValueError, "z_a: 1 row"),
        (Z[:, :0], Z[:, :0], ValueError, "z_a: embeddings of dimension 0"),
        (Z.long(), Z, TypeError, "z_a: expected floating-point embeddings, got torch.int64"),
        (Z[0], Z[0], ValueError, r"z_a: expected shape \(N, D\), got \(3,\)"),
        (Z, Z.numpy(), TypeError, "z_b: expected a tensor"),
        (Z, Z.double(), TypeError, "z_b is torch.float64 but z_a torch.float32: expected one"),
        (Z, Z.to("meta"), ValueError, "z_b is on meta but z_a on cpu"),
    ],
)
def test_shapes_and_types(z_a: Any, z_b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        barlow_twins_loss(z_a, z_b)


def test_a_loss_that_is_not_finite_is_called_by_its_name() -> None:
    with pytest.raises(FloatingPointError, match=r"^hsic_ssl_loss is nan: z_a holds 1 NaN"):
        hsic_ssl_loss(Z.masked_fill(Z[1, 1] == Z, torch.nan), Z, lamb=0.1)


@pytest.mark.parametrize("loss", [multiview_barlow_twins_loss, multiview_vicreg_loss])
@pytest.mark.parametrize(
    "views,error,message",
    [
        ([], ValueError, "views: 0 given"),
        ([Z], ValueError, "views: 1 given"),
        (torch.stack([Z, Z]), TypeError, "got one tensor"),
        ([Z, Z, Z[:2]], ValueError, r"views\[2\] has shape"),
    ],
)
def test_views(loss: Any, views: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        loss(views)


@pytest.mark.parametrize(
    "perm,error,message",
    [
        (torch.tensor([0, 1, 2, 4]), ValueError, r"expected indices in \[0, 4\), got \[0, 4\]"),
        (torch.tensor([0, 1, 2, -1]), ValueError, r"got \[-1, 2\]"),
        (torch.tensor([0, 1, 2]), ValueError, r"expected shape \(4,\)"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), TypeError, "expected a tensor of int64"),
        ([0, 1, 2, 3], TypeError, "got list"),
    ],
)
def test_permutation(perm: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mixed_barlow_twins_loss(Z, Z, Z, perm=perm, mix=0.5)


@pytest.mark.parametrize("mix", [-0.1, 1.5, float("nan"), torch.tensor([0.5, 0.5])])
def test_mixing_coefficient(mix: Any) -> None:
    with pytest.raises(ValueError, match="mix: expected"):
        mixed_barlow_twins_loss(Z, Z, Z, perm=torch.arange(4), mix=mix)


@pytest.mark.parametrize("option", ["impl", "ddp"])
@pytest.mark.parametrize("name", LOSSES)
def test_unknown_choice(name: str, option: str) -> None:
    count, loss = LOSSES[name]
    with pytest.raises(ValueError, match=f"{option}='fast': expected one of"):
        loss([Z] * count, **{option: "fast"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", LOSSES)
def test_nan_and_infinity(name: str, value: float) -> None:
    count, loss = LOSSES[name]
    views = [Z.clone() for _ in range(count)]
    views[-1][2, 1] = value
    with pytest.raises(FloatingPointError, match=r"holds 1 NaN or .* at \[2, 1\]"):
        loss(views)
    assert not loss(views, check_finite=False).loss.isfinite()


def test_constant_dimension_with_eps_is_fine() -> None:
    z = torch.cat([torch.ones(4, 1), Z], dim=1).requires_grad_()
    barlow_twins_loss(z, z).loss.backward()
    assert z.grad is not None and z.grad.isfinite().all()
