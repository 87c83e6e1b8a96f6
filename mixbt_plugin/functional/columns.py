"""Gram matrices and diagonals of standardised batches, read a block of columns at a time.

All that the objectives need of the embeddings is a sum over columns (the N x N Gram matrices
``AAᵀ``) or belongs to one column (its mean, its diagonal entry ``mean_n(a ∘ b)``). So a block of
columns is standardised, multiplied and forgotten, and the backward pass standardises it once
more: beside the inputs and their gradients O(N²) numbers are held. What is a single block, as
everything is on an accelerator, is kept for the backward pass.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mixbt_plugin.functional.standardize import Standardization, column_sums
from mixbt_plugin.functional.symmetric import add_lower_, mirror_lower_


class Derivation(Protocol):
    """Further batches that depend linearly on the standardised views."""

    @property
    def count(self) -> int:
        """Number of its batches."""

    def __call__(self, views: Tensor, out: Tensor) -> None:
        """From any columns of the V standardised views, (V, N, d), to those of its batches."""

    def add_adjoint_(self, grads: Tensor, derived_grads: Tensor) -> None:
        """Adds to the views' gradients (V, N, d) what they owe to those of the derived batches.

        These are overwritten.
        """

    def of_all_rows(self) -> Derivation:
        """The same for the rows of all processes in rank order."""


@dataclass(frozen=True)
class Combination:
    """Linear combinations of V views; the coefficients of each are a row of ``weights`` (E, V)."""

    weights: Tensor

    @property
    def count(self) -> int:
        """Number of combinations."""
        return self.weights.size(0)

    def __call__(self, views: Tensor, out: Tensor) -> None:
        """See `Derivation`."""
        torch.mm(self.weights, views.flatten(1), out=out.flatten(1))

    def add_adjoint_(self, grads: Tensor, derived_grads: Tensor) -> None:
        """See `Derivation`."""
        grads.flatten(1).addmm_(self.weights.T, derived_grads.flatten(1))

    def of_all_rows(self) -> Combination:
        """See `Derivation`."""
        return self


@dataclass(frozen=True)
class Wanted:
    """What is computed of the V views and the derived batches, which are numbered in this order.

    Attributes:
        standardization: of the views.
        derivation: the further batches.
        grams: batches whose Gram matrices are wanted.
        diagonals: pairs of batches whose ``mean_n(a ∘ b)`` are wanted.
        row_sums: whether ``Σ_i a_ni`` of the views are wanted.
    """

    standardization: Standardization
    derivation: Derivation | None
    grams: Sequence[int]
    diagonals: Sequence[tuple[int, int]]
    row_sums: bool = False

    def runs_of_diagonals(self) -> list[tuple[slice, slice, slice]]:
        """The diagonals in runs of pairs (u, v), (u + 1, v + 1), … that one operation computes.

        Slices, as a list of indexes would have to be sent to an accelerator.

        Returns:
            Of each run, which of ``diagonals`` it holds, and its batches u and v.
        """
        starts = [
            i
            for i, (u, v) in enumerate(self.diagonals)
            if i == 0 or self.diagonals[i - 1] != (u - 1, v - 1)
        ]
        found = []
        for start, stop in zip(starts, [*starts[1:], len(self.diagonals)]):
            u, v = self.diagonals[start]
            count = stop - start
            found.append((slice(start, stop), slice(u, u + count), slice(v, v + count)))
        return found


class _Statistics(torch.autograd.Function):
    """`statistics`, a block at a time.

    The gradient of a Gram matrix has to be symmetric, as that of any Frobenius product of Gram
    matrices is: the gradient of Z is then ``2 G Z``, one product instead of two.
    """

    @staticmethod
    def forward(ctx: Any, wanted: Wanted, *views: Tensor) -> tuple[Tensor, ...]:
        how, count = wanted.standardization, len(views)
        rows, columns = views[0].shape
        new, empty = views[0].new_zeros, views[0].new_empty
        means, scales = empty(how.groups(count), columns), empty(how.groups(count), columns)
        grams = new(len(wanted.grams), rows, rows)
        diagonals = new(len(wanted.diagonals), columns)
        row_sums = new(count if wanted.row_sums else 0, rows)
        batch_count = count + (wanted.derivation.count if wanted.derivation else 0)
        blocks = _blocks(batch_count, rows, columns, views[0].device)
        # A single block is small, or on an accelerator, and kept.
        kept = [empty(batch_count, rows, columns)] if len(blocks) == 1 else []
        for at in blocks:
            shape = (batch_count, rows, at.stop - at.start)
            spare, *others = _workspaces(2 - len(kept), shape, views[0])
            (batches,) = kept or others
            block = [z[:, at] for z in views]
            how.forward(block, batches[:count], means[:, at], scales[:, at], spare[:count])
            if wanted.derivation is not None:
                wanted.derivation(batches[:count], out=batches[count:])
            for gram, index in zip(grams, wanted.grams):
                add_lower_(gram, batches[index])
            for which, u, v in wanted.runs_of_diagonals():
                products = torch.mul(batches[u], batches[v], out=spare[: which.stop - which.start])
                diagonals[which, at] = column_sums(products) / rows
            if wanted.row_sums:
                row_sums += batches[:count].sum(dim=2)
        for gram in grams:
            mirror_lower_(gram)
        ctx.wanted, ctx.blocks, ctx.count, ctx.batch_count = wanted, blocks, count, batch_count
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(means, scales, *views, *kept)
        return means, grams, diagonals, row_sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted, count, (means, scales, *saved) = ctx.wanted, ctx.count, ctx.saved_tensors
        views, kept = saved[:count], saved[count:]
        how, rows = wanted.standardization, views[0].size(0)
        mean_grads, gram_grads, diagonal_grads, row_sum_grads = output_grads
        gradient_of = {} if gram_grads is None else dict(zip(wanted.grams, gram_grads))
        view_grads = [torch.empty_like(z) for z in views] if len(ctx.blocks) > 1 else []
        for at in ctx.blocks:
            shape = (ctx.batch_count, rows, at.stop - at.start)
            grads, *others = _workspaces(2 - len(kept), shape, views[0])
            (batches,) = kept or others
            if not kept:
                how.again([z[:, at] for z in views], batches, means[:, at], scales[:, at])
                if wanted.derivation is not None:
                    wanted.derivation(batches[:count], out=batches[count:])
            for index, (batch, grad) in enumerate(zip(batches, grads)):
                if index in gradient_of:
                    torch.addmm(grad, gradient_of[index], batch, beta=0, alpha=2, out=grad)
                else:
                    grad.zero_()
            if diagonal_grads is not None:
                for which, u, v in wanted.runs_of_diagonals():
                    weight = diagonal_grads[which, None, at] / rows
                    if u == v:
                        grads[u].addcmul_(batches[u], weight, value=2)
                    else:
                        grads[u].addcmul_(batches[v], weight)
                        grads[v].addcmul_(batches[u], weight)
            if row_sum_grads is not None:
                grads[:count] += row_sum_grads[:, :, None]
            if wanted.derivation is not None:
                wanted.derivation.add_adjoint_(grads[:count], grads[count:])
            mean_grads_here = None if mean_grads is None else mean_grads[:, at]
            found = how.backward(grads[:count], batches[:count], scales[:, at], mean_grads_here)
            for whole, part in zip(view_grads, found):
                whole[:, at] = part
        return None, *(view_grads or found)


def statistics(views: Sequence[Tensor], wanted: Wanted) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is wanted of V views (N, D).

    Returns:
        Means (V, D), or (1, D) of pooled views; Gram matrices (·, N, N), diagonals (·, D), row
        sums (V, N).
    """
    means, grams, diagonals, row_sums = _Statistics.apply(wanted, *views)
    return means, grams, diagonals, row_sums


KEPT_NUMBERS = 8 * 2**20
"""Numbers of all batches up to which they are a single block on a CPU, 32 MiB in float32."""
BLOCK_NUMBERS = 5 * 2**20
"""Numbers of all batches of a block where they are more, 20 MiB."""
LEAST_WIDTH = 512
"""Columns of a block at least: narrow products cannot use the processor."""


def _blocks(batches: int, rows: int, columns: int, device: torch.device) -> list[slice]:
    """Blocks of columns, on a CPU where there are many numbers; otherwise all columns at once."""
    if device.type != "cpu" or batches * rows * columns <= KEPT_NUMBERS:
        return [slice(0, columns)]
    width = max(BLOCK_NUMBERS // (batches * rows), LEAST_WIDTH)
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def _workspaces(count: int, shape: Sequence[int], like: Tensor) -> list[Tensor]:
    if like.device.type != "cpu":
        return [like.new_empty(shape) for _ in range(count)]
    return [*_scratch.memory(count * math.prod(shape), like).view(count, *shape)]


class _Scratch(threading.local):
    """Memory of a CPU's blocks, kept from call to call: 40 MiB for each thread and dtype.

    Fresh memory costs a page fault for each 4 KiB, which takes longer than several passes over it.
    PyTorch keeps an accelerator's memory by itself.
    """

    def __init__(self) -> None:
        self._kept: dict[torch.dtype, Tensor] = {}

    def memory(self, size: int, like: Tensor) -> Tensor:
        if like.dtype not in self._kept or len(self._kept[like.dtype]) < size:
            # Made in inference mode it could not be written to outside of it.
            with torch.inference_mode(False):
                self._kept[like.dtype] = torch.empty(size, dtype=like.dtype)
        return self._kept[like.dtype][:size]


_scratch = _Scratch()
