"""VICReg (arXiv 2105.04906) for any number of views (arXiv 2312.10725)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import Ddp, Impl, center, is_dead
from mixbt_plugin.losses._checks import (
    check_choice,
    check_views,
    named_views,
    prepare,
    refuse_not_finite,
)
from mixbt_plugin.losses.multiview_barlow_twins import Pairing, mean_view


class VICRegTerms(NamedTuple):
    """Weighted sum of the three terms, and the terms, unweighted, each 0-dim."""

    loss: Tensor
    sim: Tensor
    var: Tensor
    cov: Tensor


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
    group: Any = None,
    check_finite: bool = True,
) -> VICRegTerms:
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
        eps: added to the variances. A column whose variance is still no more than rounding is dead
            (`dead_columns`): its variance term has no gradient.
        impl: as in `barlow_twins_loss`.
        ddp: ``"exact"`` takes ``sim`` over the global batch, ``"legacy"`` over this process's rows,
            as solo-learn does. Variances and covariances are of the global batch in both, and the
            averaged gradient is the same. ``"legacy-sync"`` has 1 / W of that gradient.
            ``"local"`` takes all three over this process's rows.
        group: as in `barlow_twins_loss`.
        check_finite: as in `barlow_twins_loss`.

    Returns:
        The loss and its three terms, unweighted.

    Raises:
        TypeError, ValueError: an argument is not as said above; or, on several processes, they
            hold unlike rows or dimensions, or this one is not in ``group``.
        FloatingPointError: the loss is NaN or infinite.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> multiview_vicreg_loss([z, z, z]).loss.item()  # equal, spread and uncorrelated
        0.0
    """
    check_choice("pairing", pairing, Pairing)
    embeddings = named_views(views)
    solo_learns = ddp == "legacy"
    ddp = "exact" if solo_learns else ddp
    check = partial(check_views, views)
    given, batch = prepare(embeddings, impl=impl, ddp=ddp, group=group, before=check)
    zs = batch.columns(given)
    sides = zs
    if pairing == "mean" and len(zs) > 2:
        sum_of_views = sum(zs[1:], zs[0])
        sides = [*zs, *((sum_of_views - z) / (len(zs) - 1) for z in zs)]

    centered, means = zip(*map(center, sides))
    variances = torch.stack([c.square().sum(dim=0) for c in centered]) / (batch.n - 1)
    deviations = torch.stack(
        [_deviation(v, mean, batch.n, eps) for v, mean in zip(variances, means)]
    )
    sim, hinge, squares = batch.sums(
        _invariance(zs, pairing).sum() / batch.n,
        torch.relu(1 - deviations).sum(),
        variances.square().sum(),
    )
    energies = torch.stack(batch.energies(*((c, c) for c in centered))).sum()
    covariances = energies * (batch.n / (batch.n - 1)) ** 2 - squares

    sim = sim / batch.dim
    var = 2 / len(sides) * hinge / batch.dim
    cov = 2 / len(sides) * covariances / batch.dim
    if solo_learns:
        sim = sim + (_invariance(given, pairing).mean() - sim).detach()
    loss = sim_loss_weight * sim + var_loss_weight * var + cov_loss_weight * cov
    if check_finite:
        refuse_not_finite("multiview_vicreg_loss", loss, embeddings)
    return VICRegTerms(loss, sim, var, cov)


def _invariance(views: Sequence[Tensor], pairing: Pairing) -> Tensor:
    """Mean over the pairs of ``(x - y)²``, (N, D), at a cost linear in V.

    With m² the mean squared difference of the V views from their mean it is ``2 V / (V - 1) m²``
    for all pairs, and ``(V / (V - 1))² m²`` for each view and the mean of the others.
    """
    if len(views) == 2:
        return (views[0] - views[1]).square()
    mean, factor = mean_view(views), len(views) / (len(views) - 1)
    # Not Tensor.var over stacked views, which takes five times as long on a CPU.
    squares = mean_view([(z - mean).square() for z in views])
    return (2 * factor if pairing == "all" else factor**2) * squares


def _deviation(variance: Tensor, mean: Tensor, n: int, eps: float) -> Tensor:
    """``√(variance + eps)``, and of a dead column a constant: there the root has no slope."""
    dead = is_dead(torch.sqrt(variance + eps), mean, n)
    return torch.where(dead, math.sqrt(eps), torch.sqrt(torch.where(dead, 1.0, variance + eps)))
