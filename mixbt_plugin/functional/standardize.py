"""Standardisation of embeddings over the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixbt_plugin.functional.collectives import Ddp, shared_sum, world_size


def column_sums(x: Tensor) -> Tensor:
    """Sums over the rows of (…, N, d), as a product, which is faster than `Tensor.sum`."""
    return x.new_ones(x.size(-2)) @ x


def center(z: Tensor, *, ddp: Ddp = "exact") -> Tensor:
    """Subtracts each dimension's mean over the batch.

    Args:
        z: (N, D).
        ddp: ``"exact"`` takes the mean over the rows of all processes, the others over these.

    Returns:
        (N, D), mean 0 in each column.
    """
    if ddp != "exact":
        return z - z.mean(dim=0)
    return z - shared_sum(z.sum(dim=0)) / (z.size(0) * world_size())


def standardize(
    z: Tensor, *, unbiased: bool = False, eps: float = 1e-5, ddp: Ddp = "exact"
) -> Tensor:
    """Brings each dimension to mean 0 and variance 1 over the batch.

    The default is batch normalisation without affine parameters, as in Barlow Twins'
    ``BatchNorm1d(affine=False)`` (facebookresearch/barlowtwins main.py:205); ``unbiased=True,
    eps=0`` is the ``(z - z.mean(0)) / z.std(0)`` of the paper's Algorithm 1 and of the Mixed
    Barlow Twins, HSIC-SSL and multi-augmentation codes.

    Args:
        z: (N, D), N >= 2.
        unbiased: divide the squares by N - 1 instead of N.
        eps: added to the variance.
        ddp: as in `center`.

    Returns:
        (N, D).
    """
    if ddp == "legacy" or world_size() == 1:
        return _batch_norm(z, unbiased=unbiased, eps=eps)
    centered = center(z, ddp=ddp)
    n = z.size(0) * world_size()
    variance = shared_sum(centered.square().sum(dim=0)) / (n - 1 if unbiased else n)
    return centered / torch.sqrt(_overflow_as_nan(variance) + eps)


def _batch_norm(z: Tensor, *, unbiased: bool, eps: float) -> Tensor:
    """`standardize` over these rows, by PyTorch's fused batch normalisation."""
    standardized, _, scale = torch.native_batch_norm(*_arguments(z, unbiased=unbiased, eps=eps))
    # A variance that overflowed has scale 0: see `_overflow_as_nan`. One NaN in a column is enough.
    standardized.detach()[0].addcdiv_(scale, scale, value=0)
    return standardized


def _arguments(z: Tensor, *, unbiased: bool, eps: float) -> tuple[Any, ...]:
    """Those of `torch.native_batch_norm`, which knows the biased variance v alone.

    ``1 / √(v / s² + eps) = s / √(v + s² · eps)``, with the s of `_root_of_share`.
    """
    s = _root_of_share(z.size(0), unbiased=unbiased)
    weight = z.new_full((z.size(1),), s) if unbiased else None
    return z, weight, None, None, None, True, 0.0, s**2 * eps


def _root_of_share(rows: int, *, unbiased: bool) -> float:
    """Root of the biased variance over the one that is meant."""
    return math.sqrt((rows - unbiased) / rows)


def _overflow_as_nan(variance: Tensor) -> Tensor:
    """A variance that overflowed shall not pass for one that makes every entry 0."""
    return variance + 0 * variance


def standardize_pooled(
    views: Sequence[Tensor], *, unbiased: bool = False, eps: float = 1e-5, ddp: Ddp = "exact"
) -> list[Tensor]:
    """`standardize` with one mean and variance for all views together.

    It is what the multi-augmentation code does (fastssl/models/barlow_twins.py:50-56). A view
    whose dimensions are scaled or shifted differently from the others is then *not* brought to
    variance 1.

    Args:
        views: V tensors (N, D).
        unbiased: as in `standardize`, with V · N rows.
        eps: as in `standardize`.
        ddp: as in `center`.

    Returns:
        V tensors (N, D).
    """
    pooled = standardize(torch.cat(list(views)), unbiased=unbiased, eps=eps, ddp=ddp)
    return list(pooled.chunk(len(views)))


@dataclass(frozen=True)
class Standardization:
    """How the columns of V views are standardised: of whole batches, or of a block of columns.

    Attributes:
        scale: bring each column to variance 1; False only centres it.
        unbiased: as in `standardize`.
        eps: as in `standardize`.
        pooled: one mean and variance for all views, as in `standardize_pooled`.
    """

    scale: bool = True
    unbiased: bool = False
    eps: float = 1e-5
    pooled: bool = False

    def __call__(self, views: Sequence[Tensor], *, ddp: Ddp = "exact") -> list[Tensor]:
        """Whole views (N, D), with the gradient that autograd derives."""
        if not self.scale:
            return [center(z, ddp=ddp) for z in views]
        if self.pooled:
            return standardize_pooled(views, unbiased=self.unbiased, eps=self.eps, ddp=ddp)
        return [standardize(z, unbiased=self.unbiased, eps=self.eps, ddp=ddp) for z in views]

    def forward(
        self, views: Sequence[Tensor], out: Tensor, means: Tensor, scales: Tensor, spare: Tensor
    ) -> None:
        """Standardises some columns of V views, all rows, without a gradient.

        Args:
            views: V tensors (N, d).
            out: (V, N, d), takes the standardised views.
            means: (G, d), takes the means; G is 1 if pooled, else V.
            scales: (G, d), takes the inverse standard deviations, 1 where not scaled.
            spare: (V, N, d), is overwritten.
        """
        # Written to given memory, what PyTorch normalises must be contiguous, or is wrong.
        if self.pooled or (self.scale and not all(z.is_contiguous() for z in views)):
            views = self._grouped(torch.stack([*views], out=spare)).unbind()
        if not self.scale:
            for z, mean, centered in zip(views, means, self._grouped(out)):
                torch.sub(z, torch.mean(z, dim=0, out=mean), out=centered)
            scales.fill_(1)
            return
        for z, a, mean, scale in zip(views, self._grouped(out), means, scales):
            arguments = _arguments(z, unbiased=self.unbiased, eps=self.eps)
            torch.native_batch_norm(*arguments, out=(a, mean, scale))
        self._grouped(out)[:, 0] += 0 / scales  # As in `_batch_norm`.
        scales *= _root_of_share(len(views[0]), unbiased=self.unbiased)

    def again(self, views: Sequence[Tensor], out: Tensor, means: Tensor, scales: Tensor) -> None:
        """Standardises once more, with the means and scales that `forward` found."""
        shifts = -means * scales
        of_view = [0] * len(views) if self.pooled else range(len(views))
        for z, standardized, group in zip(views, out, of_view):
            torch.addcmul(shifts[group], z, scales[group], out=standardized)

    def backward(
        self, grads: Tensor, standardized: Tensor, scales: Tensor, mean_grads: Tensor | None
    ) -> list[Tensor]:
        """Gradient of what was standardised.

        ``dz = scale · (g - mean(g) - a · Σ_n(a ∘ g) / N)``, a the standardised view: what batch
        normalisation passes back to an input a, whose mean is 0. With the unbiased variance Σ is
        divided by N - 1.

        Args:
            grads: of the standardised views, (V, N, d).
            standardized: the standardised views, (V, N, d).
            scales: (G, d).
            mean_grads: of the means, (G, d).

        Returns:
            V tensors (N, d).
        """
        rows_of_view = grads.size(1)
        grads, standardized = self._grouped(grads), self._grouped(standardized)
        rows = grads.size(1)
        if self.scale:
            s = _root_of_share(rows, unbiased=self.unbiased)
            zeros, of_input_alone = torch.zeros_like(scales[0]), [True, False, False]
            of_biased = torch.full_like(zeros, 1 / s)
            found = [
                torch.ops.aten.native_batch_norm_backward(
                    *(g, a, scale * s, None, None, zeros, of_biased, True, 0.0, of_input_alone)
                )[0]
                for g, a, scale in zip(grads, standardized, scales)
            ]
            if mean_grads is not None:
                found = [dz + mean_grad / rows for dz, mean_grad in zip(found, mean_grads)]
        else:
            shifts = (0 if mean_grads is None else mean_grads) - column_sums(grads)
            found = [g + shift for g, shift in zip(grads, shifts / rows)]
        return [dz for group in found for dz in group.split(rows_of_view)]

    def groups(self, views: int) -> int:
        """How many means and scales the columns of so many views have."""
        return 1 if self.pooled else views

    def _grouped(self, views: Tensor) -> Tensor:
        return views.flatten(0, 1)[None] if self.pooled else views
