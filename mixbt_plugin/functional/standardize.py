"""Standardisation of embeddings over the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """`standardize` over these rows, by PyTorch's fused batch normalisation.

    It knows the biased variance v alone: ``1 / √(v / s + eps) = √s / √(v + s · eps)``.
    """
    s = (z.size(0) - 1) / z.size(0) if unbiased else 1.0
    weight = z.new_full((z.size(1),), math.sqrt(s)) if unbiased else None
    standardized, _, scale = torch.native_batch_norm(
        z, weight, None, None, None, True, 0.0, s * eps
    )
    # A variance that overflowed has scale 0: see `_overflow_as_nan`. One NaN in a column is enough.
    standardized.detach()[0].add_(0 / scale)
    return standardized


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

    def means(self, views: Sequence[Tensor]) -> Tensor:
        """Means of some columns of V views (N, d), all rows, (V, d)."""
        sums = torch.stack([column_sums(z) for z in views])
        return self._pool(sums) / self._samples(views)

    def scales(self, centered: Tensor, spare: Tensor) -> Tensor:
        """Inverse standard deviations (V, d) of centred views (V, N, d).

        Args:
            centered: (V, N, d).
            spare: (V, N, d), is overwritten.
        """
        squares = self._pool(column_sums(torch.mul(centered, centered, out=spare)))
        variance = squares / (self._samples(centered) - self.unbiased)
        return torch.rsqrt(_overflow_as_nan(variance) + self.eps)

    def backward(
        self, grads: Tensor, views: Tensor, scales: Tensor, spare: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradient of what was standardised, as ``scale · grads + shift``.

        ``dz = scale · (g - mean(g) - a · Σ_n(a ∘ g) / N)``, a the standardised view.

        Args:
            grads: of the standardised views, (V, N, d), is overwritten.
            views: the standardised views, (V, N, d).
            scales: (V, d).
            spare: (V, N, d), is overwritten.

        Returns:
            ``grads`` and the shift (V, d).
        """
        shift = -scales * self._pool(column_sums(grads)) / self._samples(views)
        if self.scale:
            along = self._pool(column_sums(torch.mul(grads, views, out=spare)))
            along /= self._samples(views) - self.unbiased
            grads.addcmul_(views, along[:, None], value=-1)
        return grads, shift

    def _samples(self, views: Sequence[Tensor] | Tensor) -> int:
        return views[0].size(0) * (len(views) if self.pooled else 1)

    def _pool(self, sums: Tensor) -> Tensor:
        return sums.sum(dim=0, keepdim=True).repeat(len(sums), 1) if self.pooled else sums
