"""Barlow Twins (arXiv 2103.03230, Eq. 1 and 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import (
    Correlations,
    Standardization,
    as_asked,
    correlations,
    ddp_choices,
    full_precision,
    impl_choices,
)
from mixbt_plugin.functional.collectives import Ddp
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import check_batches, check_choice, check_finite


class BarlowTwinsLoss(NamedTuple):
    """``loss = scale_loss · (on_diag + lamb · off_diag)``, each 0-dim."""

    loss: Tensor
    on_diag: Tensor
    off_diag: Tensor


@as_asked
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
        impl: ``"gram"`` (N x N), ``"dense"`` (D x D) or ``"auto"``; see `correlations`.
        ddp: ``"exact"``, ``"legacy"`` or ``"local"``; see `mixbt_plugin.functional.collectives`.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError: inputs of another type or shape than said above.
        FloatingPointError: the loss is NaN or infinite.
    """
    check_batches({"z_a": z_a, "z_b": z_b})
    check_choice("impl", impl, impl_choices)
    check_choice("ddp", ddp, ddp_choices)
    c = correlations(
        [z_a, z_b],
        standardization=Standardization(unbiased=unbiased, eps=eps),
        energies=[(0, 1)],
        diagonals=[(0, 1)],
        row_sums=offdiag_target != 0,
        impl=impl,
        ddp=ddp,
    )
    terms = redundancy_reduction(c, lamb=lamb, scale_loss=scale_loss, target=offdiag_target)
    check_finite("barlow_twins_loss", terms.loss, {"z_a": z_a, "z_b": z_b})
    return terms


def redundancy_reduction(
    c: Correlations, *, lamb: float, scale_loss: float, target: float = 0.0
) -> BarlowTwinsLoss:
    """Barlow Twins' terms of batches 0 and 1, whose diagonal is the only one."""
    d = c.diagonals.squeeze(0)
    e = 1 - d
    # Products with themselves: with few dimensions the operations' number is what counts.
    of_target = [d.sum(), d.new_full((), len(d))] if target else []
    on_diag, squares, *rest = c.sums(torch.dot(e, e), torch.dot(d, d), *of_target)
    off_diag = c.energy(0, 1) - squares
    if target:
        # Σ_{i≠j} (C_ij - t)² = Σ_{i≠j} C_ij² + t² D (D - 1) - 2t Σ_{i≠j} C_ij
        entries, dim = rest
        off_diag_entries = c.sum_of_entries(0, 1) - entries
        off_diag = off_diag + target**2 * dim * (dim - 1) - 2 * target * off_diag_entries
    return BarlowTwinsLoss(scale_loss * (on_diag + lamb * off_diag), on_diag, off_diag)
