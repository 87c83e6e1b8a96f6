"""VICReg (arXiv 2105.04906) for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
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
from mixbt_plugin.functional.collectives import Ddp, world_size
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import check_choice, check_finite, check_views
from mixbt_plugin.losses.multiview_barlow_twins import Pairing, pairing_choices


class VICRegLoss(NamedTuple):
    """Weighted sum of the three terms, and the terms, unweighted, each 0-dim."""

    loss: Tensor
    sim: Tensor
    var: Tensor
    cov: Tensor


@as_asked
@full_precision
def multiview_vicreg_loss(
    views: Sequence[Tensor],
    *,
    sim_loss_weight: float = 25.0,
    var_loss_weight: float = 25.0,
    cov_loss_weight: float = 1.0,
    pairing: Pairing = "all",
    eps: float = 1e-4,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
) -> VICRegLoss:
    """VICReg over V views: the mean of a two-view loss over pairs of embeddings (x, y).

    The two-view loss is solo-learn's (solo/losses/vicreg.py:26-114)::

        sim = mean((x - y)²)
        var = Σ_{z in x,y} mean_i relu(1 - sqrt(Var(z)_i + eps))
        cov = Σ_{z in x,y} Σ_{i≠j} Cov(z)²_ij / D              (both over N - 1)

    ``pairing="all"`` takes all pairs of views, ``pairing="mean"`` pairs each view with the mean
    of the *other* views, as the multi-augmentation code does (fastssl/models/vicreg.py:87-116,
    which halves ``var``, takes ``eps=0`` and has weights λ, μ, 1). With two views both are the
    plain two-view loss.

    Args:
        views: V >= 2 tensors (N, D).
        sim_loss_weight: weight of the invariance term.
        var_loss_weight: weight of the variance term.
        cov_loss_weight: weight of the covariance term.
        pairing: ``"all"`` or ``"mean"``, see above.
        eps: added to the variances.
        impl: as in `barlow_twins_loss`.
        ddp: ``"exact"`` takes ``sim`` over the global batch, ``"legacy"`` over this process's rows,
            as solo-learn does. Variances and covariances are of the global batch in both, and the
            averaged gradient is the same. ``"local"`` takes all three over this process's rows.

    Returns:
        The loss and its three terms, unweighted.

    Raises:
        TypeError, ValueError: inputs of another type or shape than said above.
        FloatingPointError: the loss is NaN or infinite.
    """
    check_views(views)
    check_choice("pairing", pairing, pairing_choices)
    check_choice("impl", impl, impl_choices)
    check_choice("ddp", ddp, ddp_choices)

    # Batches 0 … V-1 are the centred views; then their differences from the mean view, whose mean
    # square is the invariance term of both pairings; then the means of the others. The differences
    # of two views are the same but for their sign.
    v = len(views)
    itself = torch.eye(v, dtype=views[0].dtype, device=views[0].device)
    weights = (itself - 1 / v)[: 1 if v == 2 else v]
    differences = range(v, v + len(weights))
    if pairing == "all" or v == 2:
        sides, per_side = [*range(v)], 2.0 / v
        per_distance = 2 * v / (v - 1)
    else:
        sides, per_side = [*range(v), *range(2 * v, 3 * v)], 1.0 / v
        per_distance = (v / (v - 1)) ** 2
        weights = torch.cat([weights, (1 - itself) / (v - 1)])
    c = correlations(
        views,
        standardization=Standardization(scale=False),
        derivation=Combination(weights),
        energies=[(side, side) for side in sides],
        diagonals=[(batch, batch) for batch in (*differences, *sides)],
        impl=impl,
    )
    n, dim = views[0].size(0) * world_size(), views[0].size(1)
    of_differences, of_sides = c.diagonals.split([len(differences), len(sides)])
    between_means = (c.means - c.means.mean(dim=0)).square().sum() / v
    variances = of_sides * (n / (n - 1))
    distance, hinge, squares = c.sums(
        of_differences.sum() / len(differences) + between_means,
        torch.relu(1 - torch.sqrt(variances + eps)).sum(),
        variances.square().sum(),
    )
    energies = torch.stack([c.energy(side, side) for side in sides]).sum() * (n / (n - 1)) ** 2

    sim = per_distance * distance / dim
    var = per_side * hinge / dim
    cov = per_side * (energies - squares) / dim
    if ddp == "legacy":
        sim = sim + (per_distance * _local_distance(views) - sim).detach()
    loss = sim_loss_weight * sim + var_loss_weight * var + cov_loss_weight * cov
    check_finite("multiview_vicreg_loss", loss, {f"views[{i}]": z for i, z in enumerate(views)})
    return VICRegLoss(loss, sim, var, cov)


def _local_distance(views: Sequence[Tensor]) -> Tensor:
    """Mean square of this process's views' differences from their mean view."""
    stacked = torch.stack(list(views))
    return (stacked - stacked.mean(dim=0)).square().mean()
