"""What the spectrum of features says: how many directions they use, and how fast it falls off."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-7
"""RankMe's ε for float32 features (arXiv 2210.02885), and LiDAR's."""
FIRST, LAST = 11, 100
"""Ranks that `alpha_req` fits: past the first ten, which seldom follow the law, and before the
noise of the tail."""


def eigenvalues(z: Tensor, *, centred: bool = True) -> Tensor:
    """Eigenvalues of the covariance of features, from the smaller of its N x N and D x D sides.

    Args:
        z: features (N, D).
        centred: subtract the mean first; without it they are the squared singular values over N.

    Returns:
        float64 (min(N, D),), falling, none below 0.
    """
    z = z.detach().double()
    if centred:
        z = z - z.mean(dim=0)
    gram = z @ z.T if len(z) < z.size(1) else z.T @ z
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0) / len(z)


def effective_rank(spectrum: Tensor, *, epsilon: float = EPSILON) -> Tensor:
    """The exponential of a spectrum's entropy: k where k of its values are equal and the others 0.

    ``exp(-Σ p log p)`` with ``p = s / Σs + ε`` (arXiv 2210.02885).

    Args:
        spectrum: (K,), not negative; all 0 gives 0, no direction at all.
        epsilon: ε, for the logarithm of what is 0.

    Returns:
        A number in [0, K], 0-dim.
    """
    total = spectrum.sum()
    if total == 0:
        return torch.zeros_like(total)
    p = spectrum / total + epsilon
    return torch.exp(-(p * p.log()).sum())


def rank_me(z: Tensor, *, epsilon: float = EPSILON) -> Tensor:
    """RankMe: the effective rank of the singular values of features (arXiv 2210.02885).

    The features are not centred, as in the paper. It is bounded by the number of images; the paper
    takes 25,600.

    Args:
        z: features or embeddings (N, D).
        epsilon: the paper's ε.

    Returns:
        A number in [0, min(N, D)], 0-dim in float64.

    Example:
        >>> import torch
        >>> round(rank_me(torch.eye(5)).item(), 3)  # five equal directions
        5.0
    """
    return effective_rank(eigenvalues(z, centred=False).sqrt(), epsilon=epsilon)


class PowerLaw(NamedTuple):
    """``λ_i ∝ i^-alpha``, fitted from rank ``first`` to ``last``, counted from 1, both included."""

    alpha: Tensor
    r_squared: Tensor
    first: int
    last: int


def alpha_req(z: Tensor, *, first: int = FIRST, last: int = LAST) -> PowerLaw:
    """α-ReQ: how fast the eigenvalues of the covariance fall off (Agrawal et al., NeurIPS 2022).

    A line is fitted to ``log λ_i`` over ``log i`` by least squares, each rank weighted by ``1 /
    i``, so that every octave counts alike, as fastssl does (fastssl/utils/powerlaw.py:36-49, after
    Stringer et al. 2019). The papers find the best features near ``alpha = 1``: less is noise in
    all directions, more a collapse onto few.

    Args:
        z: features (N, D).
        first: first rank of the fit, from 1.
        last: last rank; of fewer positive eigenvalues the last of those.

    Returns:
        The exponent, the weighted R² of the fit, and the ranks that were fitted; NaN where fewer
        than 3 are left.

    Raises:
        ValueError: ``first`` or ``last`` cannot be ranks.
    """
    if not 1 <= first < last:
        raise ValueError(f"first={first}, last={last}: expected ranks, 1 <= first < last.")
    return fit_power_law(eigenvalues(z), first=first, last=last)


def fit_power_law(spectrum: Tensor, *, first: int = FIRST, last: int = LAST) -> PowerLaw:
    """`alpha_req` of eigenvalues that are there already.

    Args:
        spectrum: (K,), falling, not negative.
        first: as in `alpha_req`.
        last: as in `alpha_req`.

    Returns:
        As `alpha_req`.
    """
    # Below this an eigenvalue is the rounding of the largest one.
    rounding = spectrum.max() * torch.finfo(spectrum.dtype).eps * len(spectrum)
    last = min(last, int((spectrum > rounding).sum()))
    if last - first < 2:
        nan = spectrum.new_full((), float("nan"))
        return PowerLaw(nan, nan, first, last)
    rank = torch.arange(first, last + 1, dtype=spectrum.dtype, device=spectrum.device)
    x, y, weight = rank.log(), spectrum[first - 1 : last].log(), (1 / rank) / (1 / rank).sum()
    x, y = x - (weight * x).sum(), y - (weight * y).sum()
    slope = (weight * x * y).sum() / (weight * x * x).sum()
    unexplained = (weight * (y - slope * x).square()).sum() / (weight * y * y).sum()
    return PowerLaw(-slope, 1 - unexplained, first, last)
