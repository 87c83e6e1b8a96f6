"""Standardisation of embeddings over the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def standardize(z: Tensor, *, unbiased: bool = False, eps: float = 1e-5) -> Tensor:
    """Brings each column to mean 0 and variance 1.

    The default is batch normalisation without affine parameters, as in Barlow Twins'
    ``BatchNorm1d(affine=False)`` (facebookresearch/barlowtwins main.py:205); ``unbiased=True,
    eps=0`` is the ``(z - z.mean(0)) / z.std(0)`` of the paper's Algorithm 1 and of the Mixed
    Barlow Twins, HSIC-SSL and multi-augmentation codes.

    A column that is dead (`dead_columns`) becomes 0 and gets no gradient.

    Args:
        z: (N, D), N >= 2.
        unbiased: divide the squares by N - 1 instead of N.
        eps: added to the variance.

    Returns:
        (N, D).
    """
    if z.size(1) == 0:
        return z
    # PyTorch's knows the biased variance v alone: with s² = (N - 1) / N for the unbiased one,
    # 1 / √(v / s² + eps) = s / √(v + s² · eps).
    s = math.sqrt((len(z) - unbiased) / len(z))
    return _BatchNorm.apply(z, s, max(s**2 * eps, torch.finfo(z.dtype).tiny))


class _BatchNorm(torch.autograd.Function):
    """PyTorch's, times a factor that is 0 for dead columns: then their gradient is 0, too."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, factor: float, eps: float) -> Tensor:
        normalized, mean, scale = torch.native_batch_norm(z, None, None, None, None, True, 0.0, eps)
        deviation = 1 / scale
        # Where the variance overflowed 0 · ∞ makes NaN: that shall not pass for a column of zeros.
        factors = (factor + 0 * deviation).masked_fill_(is_dead(deviation, mean, len(z)), 0)
        ctx.eps = eps
        ctx.save_for_backward(z, mean, scale, factors)
        return normalized.mul_(factors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        z, mean, scale, factors = ctx.saved_tensors
        of_input_alone = [True, False, False]
        given = (grads[0], z, factors, None, None, mean, scale, True, ctx.eps, of_input_alone)
        return torch.ops.aten.native_batch_norm_backward(*given)[0], None, None


def standardize_pooled(
    views: Sequence[Tensor], *, unbiased: bool = False, eps: float = 1e-5
) -> list[Tensor]:
    """`standardize` with one mean and variance for all V views (N, D) together.

    It is what the multi-augmentation code does (fastssl/models/barlow_twins.py:50-56). A view
    whose dimensions are scaled or shifted differently from the others is then *not* brought to
    variance 1.
    """
    pooled = standardize(torch.cat(list(views)), unbiased=unbiased, eps=eps)
    return list(pooled.chunk(len(views)))


def center(z: Tensor) -> tuple[Tensor, Tensor]:
    """Z less each column's mean, and the means (D,)."""
    mean = z.sum(dim=0) / len(z)  # as in `diagonal`
    return z - mean, mean


def dead_columns(z: Tensor, *, eps: float = 0.0) -> Tensor:
    """Which columns have no variance but rounding: the losses give them no gradient.

    Args:
        z: (N, D), N >= 2.
        eps: as the loss is given it; with the usual 1e-5 no column of moderate size is dead.

    Returns:
        Bools (D,).
    """
    centered, mean = center(widened(z.detach()))
    return is_dead((centered.square().mean(dim=0) + eps).sqrt(), mean, len(z))


def is_dead(deviation: Tensor, mean: Tensor, n: int) -> Tensor:
    """Whether ``√(variance + eps)`` of N numbers is no more than rounding of their mean explains.

    PyTorch adds up a column on a CPU in 16 partial sums, so that the mean of N equal numbers is off
    by up to N / 16 roundings; twice that, and a few more for small N, are allowed for.
    """
    numbers = torch.finfo(mean.dtype)
    rounding = (n / 8 + 8) * numbers.eps * mean.detach().abs()
    return deviation.detach() <= rounding + 2 * math.sqrt(numbers.tiny)


def widened(z: Tensor) -> Tensor:
    """Z in float32 where it is float16 or bfloat16."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
