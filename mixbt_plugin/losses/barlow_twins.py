"""Barlow Twins (arXiv 2103.03230, Eq. 1 and 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import (
    Energy,
    ddp_choices,
    diagonal,
    full_precision,
    impl_choices,
    standardize,
    total,
)
from mixbt_plugin.functional.collectives import Ddp, world_size
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import check_batches, check_choice, check_finite


class BarlowTwinsLoss(NamedTuple):
    """``loss = scale_loss · (on_diag + lamb · off_diag)``, each 0-dim."""

    loss: Tensor
    on_diag: Tensor
    off_diag: Tensor


@full_precision
def barlow_twins_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    lamb: float = 0.0051,
    scale_loss: float = 1.0,
    offdiag_target: float = 0.0,
    unbiased: bool = False,
    eps: float = 1e-5,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
) -> BarlowTwinsLoss:
    """``Σ_i (1 - C_ii)² + lamb · Σ_{i≠j} (C_ij - offdiag_target)²``, C the cross-correlation.

    Args:
        z_a: embeddings of the first view, (N, D).
        z_b: embeddings of the second view, (N, D).
        lamb: weight of the off-diagonal term; 0.0051 as in facebookresearch/barlowtwins
            main.py:39 and solo-learn.
        scale_loss: factor of the whole loss.
        offdiag_target: where off-diagonal entries are drawn to; 0 is Barlow Twins, -1 HSIC-SSL.
        unbiased: standardise with the unbiased variance (divided by N - 1).
        eps: added to the variance.
        impl: ``"gram"`` (N x N), ``"dense"`` (D x D) or ``"auto"``; see `Energy`.
        ddp: ``"exact"`` or ``"legacy"``; see `mixbt_plugin.functional.collectives`.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError: inputs of another type or shape than said above.
        FloatingPointError: the loss is NaN or infinite.
    """
    check_batches({"z_a": z_a, "z_b": z_b})
    check_choice("impl", impl, impl_choices)
    check_choice("ddp", ddp, ddp_choices)
    a = standardize(z_a, unbiased=unbiased, eps=eps, ddp=ddp)
    b = standardize(z_b, unbiased=unbiased, eps=eps, ddp=ddp)
    terms = redundancy_reduction(
        a, b, Energy(impl=impl, ddp=ddp), lamb=lamb, scale_loss=scale_loss, target=offdiag_target
    )
    check_finite("barlow_twins_loss", terms.loss, {"z_a": z_a, "z_b": z_b})
    return terms


def redundancy_reduction(
    a: Tensor,
    b: Tensor,
    energy: Energy,
    *,
    lamb: float,
    scale_loss: float,
    target: float = 0.0,
) -> BarlowTwinsLoss:
    """Barlow Twins' terms of two standardised batches (N, D)."""
    d = diagonal(a, b, ddp=energy.ddp)
    on_diag = (1 - d).square().sum()
    off_diag = energy(a, b) - d.square().sum()
    if target:
        off_diag = off_diag + _shift(a, b, d, target, energy.ddp)
    return BarlowTwinsLoss(scale_loss * (on_diag + lamb * off_diag), on_diag, off_diag)


def _shift(a: Tensor, b: Tensor, d: Tensor, target: float, ddp: Ddp) -> Tensor:
    """``Σ_{i≠j} (C_ij - t)² - Σ_{i≠j} C_ij²``, with ``Σ_ij C_ij`` from the rows' sums."""
    dim = a.size(1)
    row_products = torch.dot(a.sum(dim=1), b.sum(dim=1))
    off_diag_sum = total(row_products, ddp) / (a.size(0) * world_size()) - d.sum()
    return target**2 * dim * (dim - 1) - 2 * target * off_diag_sum
