"""Barlow Twins (arXiv 2103.03230, Eq. 1 and 2)."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from mixbt_plugin.functional import Ddp, GlobalBatch, Impl, diagonal
from mixbt_plugin.losses._checks import prepare, refuse_not_finite


class BarlowTwinsTerms(NamedTuple):
    """``loss = scale_loss · (on_diag + lamb · off_diag)``, each 0-dim."""

    loss: Tensor
    on_diag: Tensor
    off_diag: Tensor


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
    group: Any = None,
    check_finite: bool = True,
) -> BarlowTwinsTerms:
    """``Σ_i (1 - C_ii)² + lamb · Σ_{i≠j} (C_ij - offdiag_target)²``, C the cross-correlation.

    Args:
        z_a: embeddings of the first view, (N, D). float16 and bfloat16 are computed in float32,
            whatever autocast and TF32 are set to.
        z_b: embeddings of the second view, (N, D).
        lamb: weight of the off-diagonal term; 0.0051 as in facebookresearch/barlowtwins
            main.py:39 and solo-learn.
        scale_loss: factor of the whole loss. 1 is the papers' formula; the methods' default, 0.024,
            is that of solo-learn, whose learning rates are tuned to it.
        offdiag_target: where off-diagonal entries are drawn to; 0 is Barlow Twins, -1 HSIC-SSL.
        unbiased: standardise with the unbiased variance (divided by N - 1).
        eps: added to the variance. A column whose variance is still no more than rounding is dead
            (`dead_columns`): it counts as 0, and gets no gradient.
        impl: ``"gram"`` (N x N), ``"dense"`` (D x D) or ``"auto"``; see `GlobalBatch`.
        ddp: in a distributed run, where `DistributedDataParallel` averages the gradients of W
            processes: ``"exact"`` is one process with the whole batch; ``"legacy"``, as solo-learn
            and mix-bt, standardises each process's rows by themselves, with 1 / W of that loss's
            gradient; ``"legacy-sync"``, as facebookresearch/barlowtwins, has 1 / W of the exact
            gradient; ``"local"``, as fastssl, is a loss of each process alone.
        group: the processes whose rows are one batch, a group of `torch.distributed`; None for all.
        check_finite: raise where the loss is not finite. On an accelerator this is not looked at.

    Returns:
        The loss and its two terms, unweighted.

    Raises:
        TypeError, ValueError: an argument is not as said above; or, on several processes, they
            hold unlike rows or dimensions, or this one is not in ``group``.
        FloatingPointError: the loss is NaN or infinite.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> round(barlow_twins_loss(z, z).loss.item(), 6)  # equal views, uncorrelated dimensions
        0.0
    """
    embeddings = {"z_a": z_a, "z_b": z_b}
    views, batch = prepare(embeddings, impl=impl, ddp=ddp, group=group)
    a, b = batch.standardized(views, unbiased=unbiased, eps=eps)
    (energy,) = batch.energies((a, b))
    on_diag, off_diag = redundancy_reduction(batch, a, b, energy, offdiag_target=offdiag_target)
    loss = scale_loss * (on_diag + lamb * off_diag)
    if check_finite:
        refuse_not_finite("barlow_twins_loss", loss, embeddings)
    return BarlowTwinsTerms(loss, on_diag, off_diag)


def redundancy_reduction(
    batch: GlobalBatch, a: Tensor, b: Tensor, energy: Tensor, *, offdiag_target: float = 0.0
) -> tuple[Tensor, Tensor]:
    """``Σ_i (1 - C_ii)²`` and ``Σ_{i≠j} (C_ij - offdiag_target)²`` of ``energy = ‖C‖²_F``."""
    d = diagonal(a, b)
    if not offdiag_target:
        on_diag, squares = batch.sums((1 - d).square().sum(), d.square().sum())
        return on_diag, energy - squares
    on_diag, squares, trace = batch.sums((1 - d).square().sum(), d.square().sum(), d.sum())
    # Σ_{i≠j} (C_ij - t)² = Σ_{i≠j} C_ij² - 2t Σ_{i≠j} C_ij + t² D (D - 1)
    entries = batch.sum_of_entries(a, b) - trace
    constant = offdiag_target**2 * batch.dim * (batch.dim - 1)
    return on_diag, energy - squares - 2 * offdiag_target * entries + constant
