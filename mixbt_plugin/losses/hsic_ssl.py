"""HSIC-SSL (arXiv 2104.13712, Eq. 5): Barlow Twins whose off-diagonal target is -1."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixbt_plugin.functional import Ddp, Impl
from mixbt_plugin.losses._checks import refuse_not_finite
from mixbt_plugin.losses.barlow_twins import BarlowTwinsTerms, barlow_twins_loss


def hsic_ssl_loss(
    z_a: Tensor,
    z_b: Tensor,
    *,
    lamb: float,
    scale_loss: float = 1.0,
    unbiased: bool = False,
    eps: float = 1e-5,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
    group: Any = None,
    check_finite: bool = True,
) -> BarlowTwinsTerms:
    """``Σ_i (1 - C_ii)² + lamb · Σ_{i≠j} (1 + C_ij)²``.

    Maximising the linear-kernel HSIC ``‖C‖²_F`` alone lets every entry be ±1; the diagonal is
    drawn to 1, the rest to -1 (yaohungt/Barlow-Twins-HSIC main.py:52).

    Args:
        z_a: embeddings of the first view, (N, D).
        z_b: embeddings of the second view, (N, D).
        lamb: weight of the off-diagonal term; the authors take 1 / D.
        scale_loss: this and what follows as in `barlow_twins_loss`.
        unbiased: see there.
        eps: see there.
        impl: see there.
        ddp: see there.
        group: see there.
        check_finite: see there.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError, FloatingPointError: as in `barlow_twins_loss`.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> round(hsic_ssl_loss(z, z, lamb=0.5).off_diag.item(), 4)  # two entries 0 and not -1
        2.0
    """
    terms = barlow_twins_loss(
        z_a,
        z_b,
        lamb=lamb,
        scale_loss=scale_loss,
        offdiag_target=-1.0,
        unbiased=unbiased,
        eps=eps,
        impl=impl,
        ddp=ddp,
        group=group,
        check_finite=False,
    )
    if check_finite:
        refuse_not_finite("hsic_ssl_loss", terms.loss, {"z_a": z_a, "z_b": z_b})
    return terms
