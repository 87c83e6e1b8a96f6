"""Barlow Twins for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mixbt_plugin.functional import (
    Energy,
    ddp_choices,
    diagonal,
    full_precision,
    impl_choices,
    standardize,
    standardize_pooled,
)
from mixbt_plugin.functional.collectives import Ddp
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import check_choice, check_finite, check_views
from mixbt_plugin.losses.barlow_twins import BarlowTwinsLoss

Pairing = Literal["all", "mean"]
pairing_choices: tuple[Pairing, ...] = ("all", "mean")


@full_precision
def multiview_barlow_twins_loss(
    views: Sequence[Tensor],
    *,
    lamb: float = 0.0051,
    scale_loss: float = 1.0,
    pairing: Pairing = "all",
    pooled: bool = False,
    unbiased: bool = False,
    eps: float = 1e-5,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
) -> BarlowTwinsLoss:
    """Barlow Twins over V views, at a cost linear in V.

    ``pairing="all"`` is the mean of `barlow_twins_loss` over all pairs of views; with two views it
    is that loss. ``pairing="mean"`` compares each standardised view Z_v with the mean view
    Z̄ = (1/V) Σ Z_v, as the paper's Eq. 10 and its code do for more than two views
    (fastssl/models/barlow_twins.py:98-135)::

        on_diag  = (1/V) Σ_v Σ_i (1 - mean_n(Z_v ∘ Z̄)_i)²
        off_diag = Σ_{i≠j} (Z̄ᵀ Z̄ / N)²_ij

    The mean view is not standardised again. With ``pooled=True, unbiased=True, eps=0`` and more
    than two views it is that code's loss to the letter.

    Args:
        views: V >= 2 tensors (N, D).
        lamb: weight of the off-diagonal term; the paper recommends O(1 / D).
        scale_loss: factor of the whole loss.
        pairing: ``"all"`` or ``"mean"``, see above.
        pooled: standardise all views together instead of each by itself.
        unbiased: as in `barlow_twins_loss`.
        eps: as in `barlow_twins_loss`.
        impl: as in `barlow_twins_loss`.
        ddp: as in `barlow_twins_loss`.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError: inputs of another type or shape than said above.
        FloatingPointError: the loss is NaN or infinite.
    """
    check_views(views)
    check_choice("pairing", pairing, pairing_choices)
    check_choice("impl", impl, impl_choices)
    check_choice("ddp", ddp, ddp_choices)
    if pooled:
        standardized = standardize_pooled(views, unbiased=unbiased, eps=eps, ddp=ddp)
    else:
        standardized = [standardize(z, unbiased=unbiased, eps=eps, ddp=ddp) for z in views]

    energy = Energy(impl=impl, ddp=ddp)
    terms = _all_pairs if pairing == "all" else _mean_view
    on_diag, off_diag = terms(standardized, energy)
    loss = scale_loss * (on_diag + lamb * off_diag)
    check_finite(
        "multiview_barlow_twins_loss", loss, {f"views[{v}]": z for v, z in enumerate(views)}
    )
    return BarlowTwinsLoss(loss, on_diag, off_diag)


def _all_pairs(views: Sequence[Tensor], energy: Energy) -> tuple[Tensor, Tensor]:
    diagonals = torch.stack(
        [diagonal(u, v, ddp=energy.ddp) for i, u in enumerate(views) for v in views[i + 1 :]]
    )
    on_diag = (1 - diagonals).square().sum() / len(diagonals)
    off_diag = (energy.all_pairs(views) - diagonals.square().sum()) / len(diagonals)
    return on_diag, off_diag


def _mean_view(views: Sequence[Tensor], energy: Energy) -> tuple[Tensor, Tensor]:
    mean_view = torch.stack(list(views)).mean(dim=0)
    diagonals = torch.stack([diagonal(z, mean_view, ddp=energy.ddp) for z in views])
    on_diag = (1 - diagonals).square().sum() / len(views)
    # d(Z̄, Z̄) is the mean of the d(Z_v, Z̄).
    off_diag = energy(mean_view, mean_view) - diagonals.mean(dim=0).square().sum()
    return on_diag, off_diag
