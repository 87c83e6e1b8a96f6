"""LiDAR: how many directions tell images apart, compared with how their own views differ."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbt_plugin.diagnostics.spectrum import EPSILON, effective_rank

DELTA = 1e-4
"""Added to the within-image variance of every direction, as in the paper."""


def lidar(views: Tensor, *, delta: float = DELTA, epsilon: float = EPSILON) -> Tensor:
    """The effective rank of the linear discriminants of images (arXiv 2312.04000).

    The views of an image are its class. With ``Σ_b`` the covariance of the images' mean features
    and ``Σ_w`` the mean covariance of an image's views, it is the effective rank of the eigenvalues
    of ``(Σ_w + δI)^-½ Σ_b (Σ_w + δI)^-½``.

    Where there are fewer rows than dimensions no D x D matrix is formed: those eigenvalues are the
    ones of ``M (Σ_w + δI)⁻¹ Mᵀ / N``, M the centred means (N, D), and Woodbury's identity gives the
    inverse from the N·V x N·V products of the rows.

    Args:
        views: features (N, V, D) of V >= 2 views of each of N >= 2 images: true groups, whole.
        delta: the paper's δ; no less than what rounding makes of ``Σ_w``.
        epsilon: the paper's ε.

    Returns:
        A number in [0, min(N - 1, D)], 0-dim in float64.

    Raises:
        ValueError: another shape.
    """
    if views.dim() != 3 or min(views.shape[:2]) < 2:
        raise ValueError(
            f"views: expected features (N, V, D) of at least 2 views of 2 images, "
            f"got {tuple(views.shape)}."
        )
    z = views.detach().double()
    n, count, dim = z.shape
    means = z.mean(dim=1)
    within = (z - means[:, None]).flatten(0, 1) / (n * count) ** 0.5
    between = (means - means.mean(dim=0)) / n**0.5
    # Below the rounding of features that have exploded δ would leave the sums singular.
    rounding = min(within.shape) * torch.finfo(z.dtype).eps * float(within.square().sum())
    delta = max(delta, rounding)
    if len(within) < dim:
        # B (δI + WᵀW)⁻¹ Bᵀ = (BBᵀ - BWᵀ (δI + WWᵀ)⁻¹ WBᵀ) / δ
        inner = within @ within.T + delta * torch.eye(len(within), dtype=z.dtype, device=z.device)
        cross = within @ between.T
        discriminants = (between @ between.T - cross.T @ torch.linalg.solve(inner, cross)) / delta
    else:
        inner = within.T @ within + delta * torch.eye(dim, dtype=z.dtype, device=z.device)
        root = torch.linalg.cholesky(inner)
        whitened = torch.linalg.solve_triangular(root, between.T, upper=False)
        discriminants = whitened @ whitened.T if dim < n else whitened.T @ whitened
    return effective_rank(torch.linalg.eigvalsh(discriminants).clamp(min=0), epsilon=epsilon)
