"""VICReg (arXiv 2105.04906) for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import (
    Energy,
    center,
    ddp_choices,
    full_precision,
    impl_choices,
    total,
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
            averaged gradient is the same.

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

    stacked = torch.stack(list(views))
    mean_view = stacked.mean(dim=0)
    v = len(views)
    # Both pairings measure the distance to the mean view: over all pairs the mean of (x - y)² is
    # 2V/(V-1) times its mean square, and the mean of the others lies V/(V-1) times as far.
    distance = _mean_over_batch((stacked - mean_view).square().sum(dim=0) / v, ddp)
    if pairing == "all":
        sim = 2 * v / (v - 1) * distance
        sides = list(views)
        per_side = 2.0 / v
    else:
        sim = (v / (v - 1)) ** 2 * distance
        sides = [*views, *((v * mean_view - z) / (v - 1) for z in views)]
        per_side = 1.0 / v

    energy = Energy(impl=impl)
    regularities = [_variance_and_covariance(z, energy, eps) for z in sides]
    var = per_side * torch.stack([var for var, _ in regularities]).sum()
    cov = per_side * torch.stack([cov for _, cov in regularities]).sum()
    loss = sim_loss_weight * sim + var_loss_weight * var + cov_loss_weight * cov
    check_finite("multiview_vicreg_loss", loss, {f"views[{i}]": z for i, z in enumerate(views)})
    return VICRegLoss(loss, sim, var, cov)


def _mean_over_batch(x: Tensor, ddp: Ddp) -> Tensor:
    return x.mean() if ddp == "legacy" else total(x.sum()) / (x.numel() * world_size())


def _variance_and_covariance(z: Tensor, energy: Energy, eps: float) -> tuple[Tensor, Tensor]:
    centered = center(z)
    n = z.size(0) * world_size()
    variance = total(centered.square().sum(dim=0)) / (n - 1)
    var = torch.relu(1 - torch.sqrt(variance + eps)).mean()
    all_squares = energy(centered, centered) * (n / (n - 1)) ** 2
    cov = (all_squares - variance.square().sum()) / z.size(1)
    return var, cov
