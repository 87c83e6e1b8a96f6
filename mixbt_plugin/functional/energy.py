"""The energy ``‖AᵀB‖²_F / N²`` of a cross-correlation matrix, and its diagonal.

``‖AᵀB‖²_F = ⟨AAᵀ, BBᵀ⟩_F``: the sum of the squared entries of the D x D matrix AᵀB is the inner
product of two N x N Gram matrices (the linear-kernel HSIC of the two batches), and the cheaper of
the two sides serves, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixbt_plugin.functional.collectives import Ddp, gather_rows, total, world_size

Impl = Literal["auto", "gram", "dense"]
impl_choices: tuple[Impl, ...] = ("auto", "gram", "dense")


def diagonal(a: Tensor, b: Tensor, *, ddp: Ddp = "exact") -> Tensor:
    """Diagonal of the cross-correlation matrix, ``mean_n(a ∘ b)``: (N, D), (N, D) to (D,)."""
    return total((a * b).sum(dim=0), ddp) / (a.size(0) * world_size())


class _GramRows(torch.autograd.Function):
    """This process's rows of the Gram matrix of all rows.

    The backward takes the incoming gradient of the whole matrix to be symmetric, as that of any
    Frobenius product of Gram matrices is. The gradient for the local rows is then ``2 G Z``, one
    product instead of two, with nothing to communicate.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        rows = gather_rows(z)
        ctx.save_for_backward(rows)
        return z @ rows.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        with torch.autocast(rows.device.type, enabled=False):
            return 2 * (grads[0] @ rows)


class Energy:
    """Energies ``‖AᵀB‖²_F / N²`` between a few batches, each Gram matrix computed once.

    Args:
        impl: ``"gram"`` multiplies N x N matrices, ``"dense"`` D x D ones, ``"auto"`` takes the
            smaller: Gram where the global batch has fewer rows than dimensions.
        ddp: see `mixbt_plugin.functional.collectives`.

    Example:
        >>> energy = Energy()
        >>> z = torch.eye(2)
        >>> energy(z, z)
        tensor(0.5000)
    """

    def __init__(self, *, impl: Impl = "auto", ddp: Ddp = "exact") -> None:
        self.impl = impl
        self.ddp = ddp
        self._grams: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Energy of the cross-correlation of two batches: (N, D), (N, D) to ()."""
        n = a.size(0) * world_size()
        if self.uses_gram(a):
            return total((self._gram(a) * self._gram(b)).sum(), self.ddp) / n**2
        return (total(a.T @ b, self.ddp) / n).square().sum()

    def all_pairs(self, views: Sequence[Tensor]) -> Tensor:
        """Sum of the energies of all pairs u < v of V batches (N, D), 0-dim.

        On the Gram side its cost is linear in V:
        ``Σ_{u<v} ⟨K_u, K_v⟩ = ½ (‖Σ K_v‖²_F - Σ ‖K_v‖²_F)``.
        """
        n = views[0].size(0) * world_size()
        if self.uses_gram(views[0]):
            grams = torch.stack([self._gram(view) for view in views])
            pairs = (grams.sum(dim=0).square().sum() - grams.square().sum()) / 2
            return total(pairs, self.ddp) / n**2
        return torch.stack([self(u, v) for i, u in enumerate(views) for v in views[i + 1 :]]).sum()

    def uses_gram(self, z: Tensor) -> bool:
        """Whether the N x N side is taken for batches of the shape of ``z``, (N, D)."""
        if self.impl == "auto":
            return z.size(0) * world_size() < z.size(1)
        return self.impl == "gram"

    def _gram(self, z: Tensor) -> Tensor:
        # The tensor is kept beside its Gram matrix: an id is unique only while its object lives.
        if id(z) not in self._grams:
            self._grams[id(z)] = (z, _GramRows.apply(z))
        return self._grams[id(z)][1]
