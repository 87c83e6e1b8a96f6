"""A global batch of embeddings, and the energies of cross-correlation matrices ``‖AᵀB‖²_F / N²``.

``‖AᵀB‖²_F = ⟨AAᵀ, BBᵀ⟩_F``: the sum of the squared entries of the D x D matrix AᵀB is the inner
product of two N x N Gram matrices (the linear-kernel HSIC of the two batches), and the cheaper of
the two sides serves, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from mixbt_plugin.functional.collectives import Ddp, Processes
from mixbt_plugin.functional.products import computed_share, gram, product
from mixbt_plugin.functional.standardize import standardize, standardize_pooled

Impl = Literal["auto", "gram", "dense"]
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class GlobalBatch:
    """What a loss asks of the batch that all processes hold together.

    A loss handles whole columns, (N, D), as if it were alone. In a distributed run each process
    has its share of the D columns, of the rows of all processes: statistics of a column need no
    communication then, and what is summed over columns goes through `sums`.

    Attributes:
        n: rows of all processes.
        dim: columns of all processes, D.
        processes: that hold it.
        ddp: how the gradients of the processes belong together, see `barlow_twins_loss`.
        impl: ``"gram"`` multiplies N x N matrices, ``"dense"`` D x D ones, ``"auto"`` takes the
            side that should take less time, see `gram_is_cheaper`.

    Example:
        >>> import torch
        >>> from mixbt_plugin.functional import Processes
        >>> z = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> processes = Processes.of(group=None, ddp="exact")  # this one alone: no distributed run
        >>> batch = GlobalBatch(4 * processes.size, 2, processes, "exact", "auto")
        >>> (a,) = batch.standardized([z], unbiased=False, eps=0.0)
        >>> (energy,) = batch.energies((a, a))  # of the 2 x 2 identity
        >>> energy.item()
        2.0
    """

    n: int
    dim: int
    processes: Processes
    ddp: Ddp
    impl: Impl

    def columns(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Whole columns of the views."""
        return self.processes.share_columns(views)

    def standardized(
        self, views: Sequence[Tensor], *, unbiased: bool, eps: float, pooled: bool = False
    ) -> list[Tensor]:
        """Whole columns of the views, standardised.

        Args:
            views: of this process's rows, (N, D).
            unbiased: divide the variance by N - 1.
            eps: added to it.
            pooled: by the statistics of all views together, instead of each by its own.
        """

        def each(zs: Sequence[Tensor]) -> list[Tensor]:
            if pooled:
                return standardize_pooled(zs, unbiased=unbiased, eps=eps)
            return [standardize(z, unbiased=unbiased, eps=eps) for z in zs]

        if self.ddp == "legacy":
            return self.columns(each(views))
        return each(self.columns(views))

    def rows(self, x: Tensor) -> Tensor:
        """From a tensor of this process's rows, (N, …), that of all processes' rows."""
        return self.processes.gather_rows(x)

    def permutation(self, perm: Tensor) -> Tensor:
        """``perm`` of this process's rows as one of all rows."""
        return self.rows(perm + self.processes.rank * len(perm))

    def sums(self, *terms: Tensor) -> Sequence[Tensor]:
        """Adds up terms that are sums over the columns that are here, each 0-dim."""
        if self.processes.size == 1:
            return terms
        return self.processes.sum(torch.stack(terms)).unbind()

    def sum_of_entries(self, a: Tensor, b: Tensor) -> Tensor:
        """``Σ_ij C_ij`` of ``C = AᵀB / N``, 0-dim, from the sums of their rows."""
        of_a, of_b = self.processes.sum(torch.stack([a.sum(dim=1), b.sum(dim=1)]))
        return (of_a * of_b).sum() / self.n

    def energies(self, *pairs: Pair) -> list[Tensor]:
        """``‖AᵀB‖²_F / N²`` of each pair of batches (N, D), whole columns, 0-dim."""
        batches, numbers = _numbered(pairs)
        if self._takes_gram(numbers):
            grams = self._grams(batches)
            return [(grams[u] * grams[v]).sum() / self.n**2 for u, v in numbers]
        rows = self.processes.share_rows(batches, self.dim)
        return [self._dense_energy(rows[u], rows[v]) for u, v in numbers]

    def energies_among(self, batches: Sequence[Tensor], *others: Tensor) -> list[Tensor]:
        """Sums of energies, each 0-dim; on the Gram side at a cost linear in the batches.

        Args:
            batches: two or more, (N, D), whole columns.
            others: likewise.

        Returns:
            That of all pairs of ``batches``, and for each of ``others`` that of its pairs with all
            of ``batches``.
        """
        among = list(combinations(batches, 2))
        against = [[(other, z) for z in batches] for other in others]
        pairs = [*among, *(pair for each in against for pair in each)]
        if not self._takes_gram(_numbered(pairs)[1]):
            energies = torch.stack(self.energies(*pairs))
            parts = energies.split([len(among), *map(len, against)])
            return [part.sum() for part in parts]
        grams = self._grams([*batches, *others])
        of_batches, of_others = grams[: len(batches)], grams[len(batches) :]
        # Σ_{u<v} ⟨K_u, K_v⟩ = ½ (‖Σ K_v‖²_F - Σ ‖K_v‖²_F), and Σ_v ⟨K, K_v⟩ = ⟨K, Σ K_v⟩.
        sum_of_grams = torch.stack(of_batches).sum(dim=0)
        with_themselves = sum(k.square().sum() for k in of_batches)
        of_all_pairs = (sum_of_grams.square().sum() - with_themselves) / 2
        with_others = [(k * sum_of_grams).sum() for k in of_others]
        return [products / self.n**2 for products in (of_all_pairs, *with_others)]

    def _takes_gram(self, pairs: Sequence[tuple[int, int]]) -> bool:
        if self.impl == "auto":
            return gram_is_cheaper(self.n, self.dim, pairs)
        return self.impl == "gram"

    def _grams(self, batches: Sequence[Tensor]) -> list[Tensor]:
        grams = [gram(z) for z in batches]
        if self.processes.size == 1:
            return grams
        return list(self.processes.sum(torch.stack(grams)))

    def _dense_energy(self, a: Tensor, b: Tensor) -> Tensor:
        c = gram(a.T) if a is b else product(a.T, b)
        return (self.processes.sum(c) / self.n).square().sum()


def _numbered(pairs: Sequence[Pair]) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """The batches of the pairs, each once, and the pairs as their numbers."""
    batches = list({id(z): z for pair in pairs for z in pair}.values())
    number = {id(z): i for i, z in enumerate(batches)}
    return batches, [(number[id(a)], number[id(b)]) for a, b in pairs]


PER_ENTRY = 25
"""An entry of a Gram or cross-correlation matrix is also written and read, forward and backward;
that takes as long as this many multiplications."""


def gram_is_cheaper(n: int, d: int, pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether N x N matrices take less time than D x D ones, forward and backward.

    Of a batch Z the Gram side computes ZZᵀ, of which a share h is enough as it is symmetric, and,
    backward, GZ: (1 + h) N² D multiplications. Of a pair A, B the dense side computes AᵀB and,
    backward, BGᵀ and AG: 3 N D²; of a batch with itself (1 + h) N D². What is read and written
    beside decides for small sizes: see `PER_ENTRY`, measured on a CPU.

    Args:
        n: rows of the global batch.
        d: dimensions.
        pairs: of batches, as numbers.
    """
    batches = len({batch for pair in pairs for batch in pair})
    per_gram = n * n * ((1 + computed_share(n)) * d + PER_ENTRY)
    per_product = sum(1 + computed_share(d) if u == v else 3 for u, v in pairs) * n
    return batches * per_gram < (per_product + len(pairs) * PER_ENTRY) * d * d
