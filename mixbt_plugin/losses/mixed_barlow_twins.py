"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mixbt_plugin.functional import (
    Standardization,
    as_asked,
    correlations,
    ddp_choices,
    full_precision,
    impl_choices,
)
from mixbt_plugin.functional.collectives import Ddp, gather_rows, rank
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


@dataclass(frozen=True)
class _Residuals:
    """``Z_M - mix · Z_v - (1 - mix) · Z_B[perm]`` of standardised (Z_A, Z_B, Z_M).

    Attributes:
        perm: (N,).
        mix: (N, 1).
        targets: the v of each residual, 0 for Z_A or 1 for Z_B.
    """

    perm: Tensor
    mix: Tensor
    targets: Sequence[int]

    @property
    def count(self) -> int:
        return len(self.targets)

    def __call__(self, views: Tensor, out: Tensor) -> None:
        for v, residual in zip(self.targets, out):
            torch.index_select(views[1], 0, self.perm, out=residual)
            torch.sub(views[2], residual.lerp_(views[v], self.mix), out=residual)

    def add_adjoint_(self, grads: Tensor, derived_grads: Tensor) -> None:
        for v, grad in zip(self.targets, derived_grads):
            grads[2] += grad
            grads[v].addcmul_(grad, self.mix, value=-1)
            grads[1].index_add_(0, self.perm, grad.mul_(1 - self.mix), alpha=-1)

    def of_all_rows(self) -> _Residuals:
        perm = gather_rows(self.perm + rank() * len(self.perm))
        return _Residuals(perm, gather_rows(self.mix), self.targets)


def _per_row(mix: float | Tensor, z: Tensor) -> Tensor:
    if not isinstance(mix, Tensor):
        return z.new_full((z.size(0), 1), mix)
    return mix.to(z).reshape(-1, 1).expand(z.size(0), 1)


@as_asked
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

    # Batches 0, 1, 2 are the views and the mixture, the residuals follow.
    first, second = (3, 3) if target == "paper" else (3, 4)
    residuals = _Residuals(perm.to(z_a.device), _per_row(mix, z_a), range(second - 2))
    c = correlations(
        list(batches.values()),
        standardization=Standardization(unbiased=unbiased, eps=eps),
        derivation=residuals,
        energies=[(0, 1), (first, 0), (second, 1)],
        diagonals=[(0, 1)],
        impl=impl,
        ddp=ddp,
    )
    barlow_twins = redundancy_reduction(c, lamb=lamb, scale_loss=scale_loss)
    squares = c.energy(first, 0) + c.energy(second, 1)
    if target == "imagenet-code":
        squares = 0.5 * squares
    regularizer = scale_loss * lamb_reg * lamb * squares

    loss = barlow_twins.loss + regularizer
    check_finite("mixed_barlow_twins_loss", loss, batches)
    return MixedBarlowTwinsLoss(
        loss, barlow_twins.loss, regularizer, barlow_twins.on_diag, barlow_twins.off_diag
    )
