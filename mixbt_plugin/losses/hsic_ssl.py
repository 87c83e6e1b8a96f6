"""HSIC-SSL (arXiv 2104.13712, Eq. 5): Barlow Twins whose off-diagonal target is -1."""

from __future__ import annotations

from torch import Tensor

from mixbt_plugin.functional.collectives import Ddp
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses.barlow_twins import BarlowTwinsLoss, barlow_twins_loss


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
) -> BarlowTwinsLoss:
    """``Σ_i (1 - C_ii)² + lamb · Σ_{i≠j} (1 + C_ij)²``.

    Maximising the linear-kernel HSIC ``‖C‖²_F`` alone lets every entry be ±1; the diagonal is
    drawn to 1, the rest to -1 (yaohungt/Barlow-Twins-HSIC main.py:52).

    Args:
        z_a: embeddings of the first view, (N, D).
        z_b: embeddings of the second view, (N, D).
        lamb: weight of the off-diagonal term; the authors take 1 / D.
        scale_loss: as in `barlow_twins_loss`.
        unbiased: as in `barlow_twins_loss`.
        eps: as in `barlow_twins_loss`.
        impl: as in `barlow_twins_loss`.
        ddp: as in `barlow_twins_loss`.

    Returns:
        The loss and its two terms, unweighted.
    """
    return barlow_twins_loss(
        z_a,
        z_b,
        lamb=lamb,
        scale_loss=scale_loss,
        offdiag_target=-1.0,
        unbiased=unbiased,
        eps=eps,
        impl=impl,
        ddp=ddp,
    )
