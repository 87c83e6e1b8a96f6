"""How redundant dimensions are: what Barlow Twins' loss drives down, on images it does not see."""

from __future__ import annotations

from torch import Tensor

DEAD = 1e-4
"""A dimension is dead whose standard deviation is below this, relative to the root mean square of
all values."""


def dead_dimensions(z: Tensor) -> Tensor:
    """How many dimensions are constant over the images.

    Args:
        z: features (N, D).

    Returns:
        A number in [0, D], 0-dim, int64.

    Example:
        >>> import torch
        >>> dead_dimensions(torch.tensor([[1.0, 0.5], [2.0, 0.5]])).item()
        1
    """
    return _dead(z.detach().double()).sum()


def off_diagonal_energy(z: Tensor) -> Tensor:
    """The mean squared correlation of two different dimensions, ``Σ_{i≠j} C_ij² / (D (D - 1))``.

    ``C`` is the correlation matrix of the features; dead dimensions have no correlation and count
    as 0. Through ``‖ZᵀZ‖² = ‖ZZᵀ‖²`` where there are fewer images than dimensions. Of N images
    without any correlation it is about ``1 / (N - 1)``.

    Args:
        z: features (N, D).

    Returns:
        A number in [0, 1], 0-dim in float64; 0 for one dimension.
    """
    z = z.detach().double()
    n, dim = z.shape
    if dim < 2:
        return z.new_zeros(())
    alive = ~_dead(z)
    z = z[:, alive]
    z = (z - z.mean(dim=0)) / z.std(dim=0, correction=0)
    gram = z @ z.T if n < z.size(1) else z.T @ z
    return (gram.square().sum() / n**2 - alive.sum()).clamp(min=0) / (dim * (dim - 1))


def _dead(z: Tensor) -> Tensor:
    return z.std(dim=0, correction=0) <= DEAD * z.square().mean().sqrt()
