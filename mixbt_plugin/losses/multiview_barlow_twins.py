"""Barlow Twins for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from mixbt_plugin.functional import (
    Combination,
    Standardization,
    as_asked,
    correlations,
    ddp_choices,
    full_precision,
    impl_choices,
)
from mixbt_plugin.functional.collectives import Ddp
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import check_choice, check_finite, check_views
from mixbt_plugin.losses.barlow_twins import BarlowTwinsLoss

Pairing = Literal["all", "mean"]
pairing_choices: tuple[Pairing, ...] = ("all", "mean")


@as_asked
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
    c = correlations(
        views,
        standardization=Standardization(unbiased=unbiased, eps=eps, pooled=pooled),
        **(_all_pairs if pairing == "all" else _mean_view)(len(views), views[0]),
        impl=impl,
        ddp=ddp,
    )
    d = c.diagonals
    if pairing == "all":
        on_diag, squares = c.sums((1 - d).square().sum() / len(d), d.square().sum() / len(d))
        off_diag = c.energy_of_all_pairs(len(views)) / len(d) - squares
    else:
        # d(Z̄, Z̄) is the mean of the d(Z_v, Z̄).
        on_diag, squares = c.sums((1 - d).square().sum() / len(d), d.mean(dim=0).square().sum())
        off_diag = c.energy(len(views), len(views)) - squares
    loss = scale_loss * (on_diag + lamb * off_diag)
    check_finite(
        "multiview_barlow_twins_loss", loss, {f"views[{v}]": z for v, z in enumerate(views)}
    )
    return BarlowTwinsLoss(loss, on_diag, off_diag)


def _all_pairs(v: int, like: Tensor) -> dict[str, Any]:
    # Neighbours first: what follows (u, w) is (u + 1, w + 1), computed together with it.
    pairs = [(u, u + apart) for apart in range(1, v) for u in range(v - apart)]
    return {"energies": pairs, "diagonals": pairs}


def _mean_view(v: int, like: Tensor) -> dict[str, Any]:
    return {
        "derivation": Combination(like.new_full((1, v), 1 / v)),
        "energies": [(v, v)],
        "diagonals": [(u, v) for u in range(v)],
    }
