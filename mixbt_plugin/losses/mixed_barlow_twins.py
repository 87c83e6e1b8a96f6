"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from mixbt_plugin.functional import (
    Energy,
    ddp_choices,
    full_precision,
    impl_choices,
    standardize,
)
from mixbt_plugin.functional.collectives import Ddp
from mixbt_plugin.functional.energy import Impl
from mixbt_plugin.losses._checks import (
    check_batches,
    check_choice,
    check_finite,
    check_mix,
    check_permutation,
)
from mixbt_plugin.losses.barlow_twins import redundancy_reduction

Target = Literal["paper", "imagenet-code"]
target_choices: tuple[Target, ...] = ("paper", "imagenet-code")


class MixedBarlowTwinsLoss(NamedTuple):
    """``loss = barlow_twins + regularizer``, both weighted; the other terms are unweighted."""

    loss: Tensor
    barlow_twins: Tensor
    regularizer: Tensor
    on_diag: Tensor
    off_diag: Tensor


@full_precision
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
) -> MixedBarlowTwinsLoss:
    """Barlow Twins, plus what a mixture's correlations differ from the mixture of correlations.

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
        unbiased: as in `barlow_twins_loss`; the official code takes True with ``eps=0``.
        eps: as in `barlow_twins_loss`.
        impl: as in `barlow_twins_loss`.
        ddp: as in `barlow_twins_loss`; ``perm`` indexes this process's rows.

    Returns:
        The loss and its terms.

    Raises:
        TypeError, ValueError: inputs of another type, shape or range than said above.
        FloatingPointError: the loss is NaN or infinite.
    """
    batches = {"z_a": z_a, "z_b": z_b, "z_m": z_m}
    check_batches(batches)
    check_permutation(perm, z_a.size(0))
    check_mix(mix, z_a.size(0))
    check_choice("target", target, target_choices)
    check_choice("impl", impl, impl_choices)
    check_choice("ddp", ddp, ddp_choices)

    a, b, m = (standardize(z, unbiased=unbiased, eps=eps, ddp=ddp) for z in batches.values())
    energy = Energy(impl=impl, ddp=ddp)
    barlow_twins = redundancy_reduction(a, b, energy, lamb=lamb, scale_loss=scale_loss)

    if isinstance(mix, Tensor):
        mix = mix.to(a).reshape(-1, 1)
    shuffled = (1 - mix) * b[perm.to(b.device)]
    residual = m - mix * a - shuffled
    if target == "paper":
        squares = energy(residual, a) + energy(residual, b)
    else:
        squares = 0.5 * (energy(residual, a) + energy(m - mix * b - shuffled, b))
    regularizer = scale_loss * lamb_reg * lamb * squares

    loss = barlow_twins.loss + regularizer
    check_finite("mixed_barlow_twins_loss", loss, batches)
    return MixedBarlowTwinsLoss(
        loss, barlow_twins.loss, regularizer, barlow_twins.on_diag, barlow_twins.off_diag
    )
