"""Mixed Barlow Twins for any number of views: arXiv 2312.02151 and 2312.10725 in one objective."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from mixbt_plugin.functional import Ddp, Impl
from mixbt_plugin.losses._checks import (
    check_choice,
    check_mixing,
    check_views,
    named_views,
    prepare,
    refuse_not_finite,
)
from mixbt_plugin.losses.mixed_barlow_twins import MixedBarlowTwinsTerms, mixer
from mixbt_plugin.losses.multiview_barlow_twins import (
    Pairing,
    against_the_mean,
    all_pairs,
    mean_view,
)


def multiview_mixed_barlow_twins_loss(
    views: Sequence[Tensor],
    z_m: Tensor,
    *,
    perm: Tensor,
    mix: float | Tensor,
    lamb: float = 0.0051,
    lamb_reg: float = 1.0,
    scale_loss: float = 1.0,
    pairing: Pairing = "all",
    unbiased: bool = False,
    eps: float = 1e-5,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
    group: Any = None,
    check_finite: bool = True,
) -> MixedBarlowTwinsTerms:
    """Barlow Twins over V views, regularised by a mixture of the first two.

    Z_1 … Z_V are standardised, and so is Z_M, of the images ``mix · x_1 + (1 - mix) · x_2[perm]``.
    The residual is that of `mixed_barlow_twins_loss`, and the regulariser has a part of each view::

        R = Z_M - mix · Z_1 - (1 - mix) · Z_2[perm]
        loss = scale_loss · (multiview Barlow Twins + lamb_reg · lamb · (2 / V) Σ_v ‖RᵀZ_v‖²_F / N²)

    With ``pairing="mean"`` the views are compared with their mean Z̄, and so is the residual:
    ``2 ‖RᵀZ̄‖²_F / N²``. With two views and ``pairing="all"`` it is `mixed_barlow_twins_loss`; with
    ``lamb_reg=0`` `multiview_barlow_twins_loss`. It is this plugin's: no paper has it.

    Args:
        views: V >= 2 tensors (N, D).
        z_m: embeddings of the mixed images, (N, D).
        perm: int64 (N,), the shuffle of the second view.
        mix: share of the first view in the mixture, a number or a tensor () or (N,) in [0, 1].
        lamb: weight of the off-diagonal term.
        lamb_reg: weight of the regulariser, relative to ``lamb``.
        scale_loss: factor of the whole loss.
        pairing: ``"all"`` or ``"mean"``, as in `multiview_barlow_twins_loss`.
        unbiased: as in `barlow_twins_loss`, and what follows.
        eps: see there.
        impl: see there.
        ddp: see there; ``perm`` indexes this process's rows.
        group: see there.
        check_finite: see there.

    Returns:
        The loss and its terms.

    Raises:
        TypeError, ValueError: an argument is not as said above; or, on several processes, they
            hold unlike rows or dimensions, or this one is not in ``group``.
        FloatingPointError: the loss is NaN or infinite.

    Example:
        >>> import torch
        >>> views, perm = torch.randn(4, 8, 16), torch.randperm(8)
        >>> terms = multiview_mixed_barlow_twins_loss(list(views), views[0], perm=perm, mix=1.0)
        >>> terms.loss.shape
        torch.Size([])
    """
    check_choice("pairing", pairing, Pairing)
    embeddings = {**named_views(views), "z_m": z_m}
    given, batch = prepare(
        embeddings,
        impl=impl,
        ddp=ddp,
        group=group,
        before=partial(check_views, views),
        after=partial(check_mixing, perm, mix, z_m),
    )
    *zs, m = batch.standardized(given, unbiased=unbiased, eps=eps)

    residual = m - mixer(batch, zs[1], perm, mix)(zs[0])
    if pairing == "all":
        energy, of_residual = batch.energies_among(zs, residual)
        on_diag, off_diag = all_pairs(batch, zs, energy)
        of_residual = of_residual * 2 / len(zs)
    else:
        mean = mean_view(zs)
        energy, with_mean = batch.energies((mean, mean), (residual, mean))
        on_diag, off_diag = against_the_mean(batch, zs, mean, energy)
        of_residual = 2 * with_mean

    barlow_twins = scale_loss * (on_diag + lamb * off_diag)
    regularizer = scale_loss * lamb_reg * lamb * of_residual
    loss = barlow_twins + regularizer
    if check_finite:
        refuse_not_finite("multiview_mixed_barlow_twins_loss", loss, embeddings)
    return MixedBarlowTwinsTerms(loss, barlow_twins, regularizer, on_diag, off_diag)
