"""Gram matrices and diagonals of standardised batches, read a block of columns at a time.

All that the objectives need of the embeddings is a sum over columns (the N x N Gram matrices
``AAᵀ``) or belongs to one column (its mean, its diagonal entry ``mean_n(a ∘ b)``). So a block of
columns is standardised, multiplied and forgotten while it lies in the processor's cache. The
backward pass standardises it once more, which is no slower than to write and read N x D
intermediates. Beside the inputs and their gradients O(N²) numbers are held. What is a single
block, as everything is on an accelerator, is kept for the backward pass.
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

    def __call__(self, views: Tensor, out: Tensor | None = None) -> Tensor:
        """From any columns of the V standardised views, (V, N, d), to those of its batches."""

    def add_adjoint_(self, grads: Tensor, derived_grads: Tensor) -> None:
        """Adds to the views' gradients (V, N, d) what they owe to those of the derived batches."""

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

    def __call__(self, views: Tensor, out: Tensor | None = None) -> Tensor:
        """See `Derivation`."""
        flat = None if out is None else out.flatten(1)
        combined = torch.mm(self.weights, views.flatten(1), out=flat)
        return combined.unflatten(1, views.shape[1:])

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
        new = views[0].new_zeros
        means, scales = new(count, columns), new(count, columns) + 1
        grams = new(len(wanted.grams), rows, rows)
        diagonals = new(len(wanted.diagonals), columns)
        row_sums = new(count if wanted.row_sums else 0, rows)
        blocks = _blocks(rows, columns, views[0].device)
        for at in blocks:
            batches, spare = _workspaces(2, _batches_shape(wanted, views, at), views[0])
            if len(blocks) == 1:
                batches = torch.empty_like(batches)
            block = [z[:, at] for z in views]
            means[:, at] = how.means(block)
            _center(block, means[:, at], batches)
            if how.scale:
                scales[:, at] = how.scales(batches[:count], spare[:count])
            _scale_and_derive(wanted, scales[:, at], batches)
            for gram, index in zip(grams, wanted.grams):
                add_lower_(gram, batches[index])
            for which, u, v in wanted.runs_of_diagonals():
                products = torch.mul(batches[u], batches[v], out=spare[: which.stop - which.start])
                diagonals[which, at] = column_sums(products) / rows
            if wanted.row_sums:
                row_sums += batches[:count].sum(dim=2)
        for gram in grams:
            mirror_lower_(gram)
        ctx.wanted, ctx.blocks, ctx.count = wanted, blocks, count
        ctx.set_materialize_grads(False)
        # A single block is small, or on an accelerator, and kept.
        ctx.save_for_backward(means, scales, *views, *([batches] if len(blocks) == 1 else []))
        return means.clone(), grams, diagonals, row_sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted, count, (means, scales, *saved) = ctx.wanted, ctx.count, ctx.saved_tensors
        views, kept = saved[:count], saved[count:]
        how, rows = wanted.standardization, views[0].size(0)
        mean_grads, gram_grads, diagonal_grads, row_sum_grads = output_grads
        gradient_of = {} if gram_grads is None else dict(zip(wanted.grams, gram_grads))
        view_grads = [torch.empty_like(z) for z in views]
        for at in ctx.blocks:
            batches, spare, grads = _workspaces(3, _batches_shape(wanted, views, at), views[0])
            if kept:
                batches = kept[0]
            else:
                _center([z[:, at] for z in views], means[:, at], batches)
                _scale_and_derive(wanted, scales[:, at], batches)
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
            standardized_grads, shifts = how.backward(
                grads[:count], batches[:count], scales[:, at], spare[:count]
            )
            if mean_grads is not None:
                shifts += mean_grads[:, at] / rows
            for out, shift, grad, scale in zip(
                view_grads, shifts, standardized_grads, scales[:, at]
            ):
                torch.addcmul(shift, grad, scale, out=out[:, at])
        return None, *view_grads


def _center(views: Sequence[Tensor], means: Tensor, batches: Tensor) -> None:
    for z, mean, centered in zip(views, means, batches):
        torch.sub(z, mean, out=centered)


def _scale_and_derive(wanted: Wanted, scales: Tensor, batches: Tensor) -> None:
    views = batches[: len(scales)]
    if wanted.standardization.scale:
        views *= scales[:, None]
    if wanted.derivation is not None:
        wanted.derivation(views, out=batches[len(scales) :])


def statistics(views: Sequence[Tensor], wanted: Wanted) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is wanted of V views (N, D).

    Returns:
        Means (V, D), Gram matrices (·, N, N), diagonals (·, D), row sums (V, N).
    """
    means, grams, diagonals, row_sums = _Statistics.apply(wanted, *views)
    return means, grams, diagonals, row_sums


def _blocks(rows: int, columns: int, device: torch.device) -> list[slice]:
    """Blocks of columns: 2 MiB of float32 a view on a CPU, all columns on an accelerator.

    Many rows make narrow blocks, and narrow products cannot use the processor: hence a least width.
    """
    width = max(2**19 // rows, 512) if device.type == "cpu" else columns
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def _batches_shape(wanted: Wanted, views: Sequence[Tensor], at: slice) -> tuple[int, int, int]:
    derived = wanted.derivation.count if wanted.derivation else 0
    return len(views) + derived, views[0].size(0), at.stop - at.start


def _workspaces(count: int, shape: Sequence[int], like: Tensor) -> Tensor:
    return _scratch.memory(count * math.prod(shape), like).view(count, *shape)


class _Scratch(threading.local):
    """Memory of the blocks, kept from call to call: 6 MiB a batch for each thread and dtype.

    Fresh memory costs a page fault for each 4 KiB, which takes longer than several passes over it.
    PyTorch keeps an accelerator's memory by itself.
    """

    def __init__(self) -> None:
        self._kept: dict[torch.dtype, Tensor] = {}

    def memory(self, size: int, like: Tensor) -> Tensor:
        if like.device.type != "cpu" or torch.compiler.is_compiling():
            return like.new_empty(size)
        if like.dtype not in self._kept or len(self._kept[like.dtype]) < size:
            # Made in inference mode it could not be written to outside of it.
            with torch.inference_mode(False):
                self._kept[like.dtype] = torch.empty(size, dtype=like.dtype)
        return self._kept[like.dtype][:size]


_scratch = _Scratch()
