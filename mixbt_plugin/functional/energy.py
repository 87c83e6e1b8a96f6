"""The energies ``‖AᵀB‖²_F / N²`` of cross-correlation matrices, and their diagonals.

``‖AᵀB‖²_F = ⟨AAᵀ, BBᵀ⟩_F``: the sum of the squared entries of the D x D matrix AᵀB is the inner
product of two N x N Gram matrices (the linear-kernel HSIC of the two batches), and the cheaper of
the two sides serves, forward and backward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixbt_plugin.functional.collectives import (
    Ddp,
    owed,
    share_columns,
    total,
    world_size,
)
from mixbt_plugin.functional.columns import Derivation, Wanted, statistics
from mixbt_plugin.functional.standardize import Standardization, column_sums
from mixbt_plugin.functional.symmetric import add_lower_, computed_share, mirror_lower_

Impl = Literal["auto", "gram", "dense"]
impl_choices: tuple[Impl, ...] = ("auto", "gram", "dense")
Pair = tuple[int, int]


class Correlations(ABC):
    """What the losses need of V views: standardised, they are batches 0 … V-1.

    Batches that `correlations` was told to derive from them follow. Over several processes it is
    the global batch's.

    Attributes:
        means: of the views' columns, (V, D), for views that are not pooled.
        diagonals: ``mean_n(a ∘ b)`` of each pair of batches that was asked for, (·, D).

    Some of the D may be here and the rest in other processes: `sums` adds up what is summed here.
    """

    means: Tensor
    diagonals: Tensor

    @abstractmethod
    def energy(self, u: int, v: int) -> Tensor:
        """``‖AᵀB‖²_F / N²`` of batches u and v, one of the pairs that were asked for, 0-dim."""

    def energy_of_all_pairs(self, count: int) -> Tensor:
        """Sum of the energies of all pairs u < v of the first ``count`` batches, 0-dim."""
        return torch.stack([self.energy(*pair) for pair in combinations(range(count), 2)]).sum()

    @abstractmethod
    def sums(self, *terms: Tensor) -> Sequence[Tensor]:
        """Adds up terms that are sums over the dimensions that are here, each 0-dim."""

    @abstractmethod
    def sum_of_entries(self, u: int, v: int) -> Tensor:
        """``Σ_ij C_ij`` of views u and v, 0-dim, from the sums of their rows."""


def correlations(
    views: Sequence[Tensor],
    *,
    standardization: Standardization,
    derivation: Derivation | None = None,
    energies: Sequence[Pair],
    diagonals: Sequence[Pair],
    row_sums: bool = False,
    impl: Impl = "auto",
    ddp: Ddp = "exact",
) -> Correlations:
    """Correlations between batches, on the cheaper side.

    Args:
        views: V tensors (N, D).
        standardization: of the views.
        derivation: further batches, linear in the standardised views.
        energies: the pairs of batches whose energies will be asked for.
        diagonals: the pairs of batches whose diagonals are wanted.
        row_sums: whether `Correlations.sum_of_entries` will be asked for.
        impl: ``"gram"`` multiplies N x N matrices, ``"dense"`` D x D ones, ``"auto"`` takes the
            side that should take less time, see `gram_is_cheaper`.
        ddp: see `mixbt_plugin.functional.collectives`.
    """
    rows, columns = views[0].shape
    if impl == "auto":
        gram = gram_is_cheaper(rows * world_size(), columns, tuple(energies))
        impl = "gram" if gram else "dense"
    views = owed(views, ddp)
    if impl == "dense":
        return _Dense(views, standardization, derivation, energies, diagonals, ddp)
    if ddp == "legacy" and world_size() > 1:
        views, standardization = standardization(views, ddp=ddp), Standardization(scale=False)
    grams = sorted({batch for pair in energies for batch in pair})
    wanted = Wanted(
        standardization,
        derivation.of_all_rows() if derivation else None,
        grams,
        diagonals,
        row_sums,
    )
    return _Gram(wanted, views, energies)


PER_ENTRY = 25
"""What reading and writing an entry of a Gram or cross-correlation matrix, forward and backward,
takes: as long as so many multiplications."""
PER_NUMBER = 300
"""What the Gram side takes longer than the dense one to read and write a number of a batch."""


@lru_cache
def gram_is_cheaper(n: int, d: int, energies: tuple[Pair, ...]) -> bool:
    """Whether N x N matrices take less time than D x D ones, forward and backward.

    Of a batch Z the Gram side computes ZZᵀ, of which a share h is enough as it is symmetric, and,
    backward, GZ: (1 + h) N² D multiplications. Of a pair A, B the dense side computes AᵀB and,
    backward, BGᵀ and AG: 3 N D²; of a batch with itself (1 + h) N D². What is read and written
    beside decides for small sizes: see `PER_ENTRY` and `PER_NUMBER`, measured on a CPU.

    Args:
        n: rows of the global batch.
        d: dimensions.
        energies: the pairs of batches.
    """
    batches = len({batch for pair in energies for batch in pair})
    per_gram = n * n * ((1 + computed_share(n)) * d + PER_ENTRY)
    per_product = sum(1 + computed_share(d) if u == v else 3 for u, v in energies) * n
    dense = (per_product + len(energies) * PER_ENTRY) * d * d
    return batches * (per_gram + n * d * PER_NUMBER) < dense


class _Gram(Correlations):
    """Each process has all rows and its share of the columns."""

    def __init__(self, wanted: Wanted, views: Sequence[Tensor], energies: Sequence[Pair]) -> None:
        at = {batch: index for index, batch in enumerate(wanted.grams)}
        self.pairs = {(u, v): (at[u], at[v]) for u, v in energies}
        columns = share_columns(views)
        self.n = columns[0].size(0)
        self.means, grams, self.diagonals, row_sums = statistics(columns, wanted)
        self.grams = total(grams)
        self.row_sums = total(row_sums) if wanted.row_sums else row_sums

    @cached_property
    def energies(self) -> dict[Pair, Tensor]:
        """Of all pairs at once, so that their gradients meet in one place."""
        products = _InnerProducts.apply(self.grams, [*self.pairs.values()])
        return dict(zip(self.pairs, products / self.n**2))

    def energy(self, u: int, v: int) -> Tensor:
        return self.energies[u, v]

    def energy_of_all_pairs(self, count: int) -> Tensor:
        return _SumOverPairs.apply(self.grams[:count]) / self.n**2

    def sums(self, *terms: Tensor) -> Sequence[Tensor]:
        return terms if world_size() == 1 else total(torch.stack(terms)).unbind()

    def sum_of_entries(self, u: int, v: int) -> Tensor:
        return torch.dot(self.row_sums[u], self.row_sums[v]) / self.n


class _InnerProducts(torch.autograd.Function):
    """``⟨K_u, K_v⟩`` of pairs (u, v) of the Gram matrices (V, N, N)."""

    @staticmethod
    def forward(ctx: Any, grams: Tensor, pairs: Sequence[Pair]) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(grams)
        of = grams.unbind()
        return torch.stack([(of[u] * of[v]).sum() for u, v in pairs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor, None]:
        (grams,) = ctx.saved_tensors
        grads = torch.zeros_like(grams)
        of, grads_of = grams.unbind(), grads.unbind()
        for (u, v), weight in zip(ctx.pairs, output_grads[0]):
            grads_of[u].addcmul_(of[v], weight)
            grads_of[v].addcmul_(of[u], weight)
        return grads, None


class _SumOverPairs(torch.autograd.Function):
    """``Σ_{u<v} ⟨K_u, K_v⟩ = ½ (‖Σ K_v‖²_F - Σ ‖K_v‖²_F)``, at a cost linear in V.

    Its gradient to K_v is ``Σ K_u - K_v``.
    """

    @staticmethod
    def forward(ctx: Any, grams: Tensor) -> Tensor:
        together = grams.sum(dim=0)
        ctx.save_for_backward(grams, together)
        squares = torch.stack([gram.square().sum() for gram in grams]).sum()
        return (together.square().sum() - squares) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grams, together = ctx.saved_tensors
        return (together - grams).mul_(grads[0])


class _Dense(Correlations):
    """Each process has its rows and all columns."""

    def __init__(
        self,
        views: Sequence[Tensor],
        standardization: Standardization,
        derivation: Derivation | None,
        energies: Sequence[Pair],
        diagonals: Sequence[Pair],
        ddp: Ddp,
    ) -> None:
        self.n = views[0].size(0) * world_size()
        self.views = views
        self.standardized = standardization(views, ddp=ddp)
        *found, self.diagonals = _CrossCorrelations.apply(
            self.n, derivation, energies, diagonals, *self.standardized
        )
        self.energies = dict(zip(energies, found))

    @cached_property
    def means(self) -> Tensor:  # type: ignore[override]
        return total(torch.stack([z.sum(dim=0) for z in self.views])) / self.n

    def energy(self, u: int, v: int) -> Tensor:
        return self.energies[u, v]

    def sums(self, *terms: Tensor) -> Sequence[Tensor]:
        return terms

    def sum_of_entries(self, u: int, v: int) -> Tensor:
        a, b = self.standardized[u], self.standardized[v]
        return total(torch.dot(a.sum(dim=1), b.sum(dim=1))) / self.n


class _CrossCorrelations(torch.autograd.Function):
    """``‖C‖²_F`` of pairs of batches and the diagonals of pairs, over the rows of all processes.

    Here ``C = AᵀB / n``, and a gradient G of C gives B Gᵀ / n to A and A G / n to B. The batches
    are the views and those derived from them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        n: int,
        derivation: Derivation | None,
        energies: Sequence[Pair],
        diagonals: Sequence[Pair],
        *views: Tensor,
    ) -> tuple[Tensor, ...]:
        batches = _with_derived(views, derivation)
        c_of = {(u, v): _product(batches[u], batches[v]) for u, v in energies}
        further = [pair for pair in diagonals if pair not in c_of]
        sums = [*c_of.values()]
        if further:
            sums += [torch.stack([column_sums(batches[u] * batches[v]) for u, v in further])]
        for part in sums:
            if world_size() > 1:
                dist.all_reduce(part)
            part.mul_(1 / n)
        diagonal_of = {pair: c.diagonal() for pair, c in c_of.items()}
        if further:
            diagonal_of.update(zip(further, sums[-1]))
        ctx.n, ctx.derivation, ctx.energies, ctx.diagonals = n, derivation, energies, diagonals
        ctx.count = len(views)
        ctx.save_for_backward(*c_of.values(), *batches)
        values = [c.square().sum() for c in c_of.values()]
        return *values, torch.stack([diagonal_of[pair] for pair in diagonals])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        *energy_grads, diagonal_grads = output_grads
        cs = ctx.saved_tensors[: len(energy_grads)]
        batches = ctx.saved_tensors[len(energy_grads) :]
        grads = batches[0].new_empty(len(batches), *batches[0].shape)
        grad_of, begun = grads.unbind(), set()

        def add_product(of: int, batch: Tensor, weights: Tensor) -> None:
            torch.addmm(grad_of[of], batch, weights, beta=of in begun, out=grad_of[of])
            begun.add(of)

        weight_of = dict(zip(ctx.diagonals, diagonal_grads * (1 / ctx.n)))
        for (u, v), c, energy_grad in zip(ctx.energies, cs, energy_grads):
            grad = c * (energy_grad * (2 / ctx.n))
            if (u, v) in weight_of:
                grad.diagonal().add_(weight_of.pop((u, v)))
            if u == v:
                add_product(u, batches[u], grad.mul_(2))
            else:
                add_product(u, batches[v], grad.T)
                add_product(v, batches[u], grad)
        for of in {*range(len(batches))} - begun:
            grad_of[of].zero_()
        for (u, v), weight in weight_of.items():
            grad_of[u].addcmul_(batches[v], weight)
            grad_of[v].addcmul_(batches[u], weight)
        if ctx.derivation is not None:
            ctx.derivation.add_adjoint_(grads[: ctx.count], grads[ctx.count :])
        return None, None, None, None, *grad_of[: ctx.count]


def _with_derived(views: Sequence[Tensor], derivation: Derivation | None) -> Sequence[Tensor]:
    """The views and the batches derived from them."""
    if derivation is None:
        return views
    count = len(views)
    batches = views[0].new_empty(count + derivation.count, *views[0].shape)
    torch.stack([*views], out=batches[:count])
    derivation(batches[:count], out=batches[count:])
    return batches.unbind()


def _product(a: Tensor, b: Tensor) -> Tensor:
    """AᵀB, half of it computed where A is B."""
    if a is not b:
        return a.T @ b
    c = a.new_zeros(a.size(1), a.size(1))
    add_lower_(c, a.T)
    mirror_lower_(c)
    return c
