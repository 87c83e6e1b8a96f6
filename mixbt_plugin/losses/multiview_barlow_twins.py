"""Barlow Twins for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor

from mixbt_plugin.functional import Ddp, GlobalBatch, Impl, diagonal
from mixbt_plugin.losses._checks import (
    check_choice,
    check_views,
    named_views,
    prepare,
    refuse_not_finite,
)
from mixbt_plugin.losses.barlow_twins import BarlowTwinsTerms

Pairing = Literal["all", "mean"]


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
    group: Any = None,
    check_finite: bool = True,
) -> BarlowTwinsTerms:
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
        unbiased: as in `barlow_twins_loss`, and what follows.
        eps: see there.
        impl: see there.
        ddp: see there.
        group: see there.
        check_finite: see there.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError: an argument is not as said above; or, on several processes, they
            hold unlike rows or dimensions, or this one is not in ``group``.
        FloatingPointError: the loss is NaN or infinite.

    Example:
        >>> import torch
        >>> views = torch.randn(4, 8, 16)  # 4 views of 8 images
        >>> multiview_barlow_twins_loss(list(views), pairing="mean").loss.shape
        torch.Size([])
    """
    check_choice("pairing", pairing, Pairing)
    embeddings = named_views(views)
    check = partial(check_views, views)
    given, batch = prepare(embeddings, impl=impl, ddp=ddp, group=group, before=check)
    zs = batch.standardized(given, unbiased=unbiased, eps=eps, pooled=pooled)
    if pairing == "all":
        on_diag, off_diag = all_pairs(batch, zs, *batch.energies_among(zs))
    else:
        mean = mean_view(zs)
        (energy,) = batch.energies((mean, mean))
        on_diag, off_diag = against_the_mean(batch, zs, mean, energy)
    loss = scale_loss * (on_diag + lamb * off_diag)
    if check_finite:
        refuse_not_finite("multiview_barlow_twins_loss", loss, embeddings)
    return BarlowTwinsTerms(loss, on_diag, off_diag)


def all_pairs(batch: GlobalBatch, zs: Sequence[Tensor], energy: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of Barlow Twins' two terms over all pairs, of the sum of the pairs' energies."""
    d = torch.stack([diagonal(z, other) for z, other in combinations(zs, 2)])
    on_diag, squares = batch.sums((1 - d).square().sum(), d.square().sum())
    return on_diag / len(d), (energy - squares) / len(d)


def mean_view(zs: Sequence[Tensor]) -> Tensor:
    """``Z̄``, which is not standardised again."""
    return sum(zs[1:], zs[0]) / len(zs)


def against_the_mean(
    batch: GlobalBatch, zs: Sequence[Tensor], mean: Tensor, energy: Tensor
) -> tuple[Tensor, Tensor]:
    """The two terms of each view with the mean view, of the mean view's energy with itself."""
    d = torch.stack([diagonal(z, mean) for z in zs])
    # d(Z̄, Z̄) is the mean of the d(Z_v, Z̄).
    on_diag, squares = batch.sums((1 - d).square().sum() / len(d), d.mean(dim=0).square().sum())
    return on_diag, energy - squares
