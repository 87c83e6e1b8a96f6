"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import Ddp, GlobalBatch, Impl
from mixbt_plugin.losses._checks import check_choice, check_mixing, prepare, refuse_not_finite
from mixbt_plugin.losses.barlow_twins import redundancy_reduction

Target = Literal["paper", "imagenet-code"]


class MixedBarlowTwinsTerms(NamedTuple):
    """``loss = barlow_twins + regularizer``, both weighted; the other terms are unweighted."""

    loss: Tensor
    barlow_twins: Tensor
    regularizer: Tensor
    on_diag: Tensor
    off_diag: Tensor


def mixed_barlow_twins_loss(
    z_a: Tensor,
    z_b: Tensor,
    z_m: Tensor,
    *,
    perm: Tensor,
    mix: float | Tensor,
    lamb: float = 0.0051,
    lamb_reg: float = 1.0,
    scale_loss: float = 1.0,
    target: Target = "paper",
    unbiased: bool = False,
    eps: float = 1e-5,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
    group: Any = None,
    check_finite: bool = True,
) -> MixedBarlowTwinsTerms:
    """Barlow Twins, plus a regulariser that draws a mixture's correlations to the mixed ones.

    With standardised Z_A, Z_B, Z_M, the last of the images ``mix · x_a + (1 - mix) · x_b[perm]``::

        C_MA = Z_Mᵀ Z_A / N        target  (mix · Z_A + (1 - mix) · Z_B[perm])ᵀ Z_A / N
        C_MB = Z_Mᵀ Z_B / N        target  (mix · Z_A + (1 - mix) · Z_B[perm])ᵀ Z_B / N

    Both differences are a residual R = Z_M - mix · Z_A - (1 - mix) · Z_B[perm] correlated with a
    view, so that no target matrix is formed::

        regularizer = lamb_reg · lamb · (‖RᵀZ_A‖²_F + ‖RᵀZ_B‖²_F) / N²

    Args:
        z_a: embeddings of the first view, (N, D).
        z_b: embeddings of the second view, (N, D).
        z_m: embeddings of the mixed images, (N, D).
        perm: int64 (N,), the shuffle of the second view, on the CPU or the embeddings' device.
        mix: share of the first view in the mixture, a number or a tensor () or (N,) in [0, 1].
        lamb: weight of Barlow Twins' off-diagonal term.
        lamb_reg: weight of the regulariser, relative to ``lamb``.
        scale_loss: factor of the whole loss.
        target: ``"paper"`` as above (mix-bt README.md:23-25 and main.py:72-79);
            ``"imagenet-code"`` as in its main_imagenet.py:295-310, where the second target is
            ``(mix · Z_B + (1 - mix) · Z_B[perm])ᵀ Z_B`` and the regulariser is halved.
        unbiased: this and what follows as in `barlow_twins_loss`; the official code takes True
            with ``eps=0``.
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
        >>> x, perm = torch.randn(8, 16), torch.randperm(8)
        >>> mixed = 0.3 * x + 0.7 * x[perm]
        >>> terms = mixed_barlow_twins_loss(x, x, mixed, perm=perm, mix=0.3)
        >>> terms._fields
        ('loss', 'barlow_twins', 'regularizer', 'on_diag', 'off_diag')
    """
    check_choice("target", target, Target)
    embeddings = {"z_a": z_a, "z_b": z_b, "z_m": z_m}
    check = partial(check_mixing, perm, mix, z_m)
    views, batch = prepare(embeddings, impl=impl, ddp=ddp, group=group, after=check)
    a, b, m = batch.standardized(views, unbiased=unbiased, eps=eps)

    mixed = mixer(batch, b, perm, mix)
    residual = m - mixed(a)
    second_residual, factor = (residual, 1.0) if target == "paper" else (m - mixed(b), 0.5)
    energy, of_a, of_b = batch.energies((a, b), (residual, a), (second_residual, b))
    on_diag, off_diag = redundancy_reduction(batch, a, b, energy)

    barlow_twins = scale_loss * (on_diag + lamb * off_diag)
    regularizer = scale_loss * lamb_reg * lamb * factor * (of_a + of_b)
    loss = barlow_twins + regularizer
    if check_finite:
        refuse_not_finite("mixed_barlow_twins_loss", loss, embeddings)
    return MixedBarlowTwinsTerms(loss, barlow_twins, regularizer, on_diag, off_diag)


def mixer(
    batch: GlobalBatch, z_b: Tensor, perm: Tensor, mix: float | Tensor
) -> Callable[[Tensor], Tensor]:
    """What mixes standardised embeddings as the images were: ``mix · z + (1 - mix) · z_b[perm]``.

    Args:
        batch: whose rows ``z_b`` has.
        z_b: what is shuffled.
        perm: of this process's rows, (N,).
        mix: a number, or a tensor () or (N,), likewise.
    """
    n = len(perm)
    if isinstance(mix, Tensor):
        share = mix.to(z_b).reshape(-1, 1).expand(n, 1)
    else:
        share = z_b.new_full((n, 1), mix)
    share = batch.rows(share)
    shuffled = z_b.index_select(0, batch.permutation(perm.to(z_b.device)))
    return lambda z: torch.lerp(shuffled, z, share)
