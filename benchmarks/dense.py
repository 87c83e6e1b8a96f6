"""The official codes' objectives as they state them: with D x D matrices.

Written anew from the papers' formulas and what the codes are known to compute; each loss takes a
list of embeddings (N, D) and returns a 0-dim tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LAMB = 0.0051


def batch_norm(z: Tensor) -> Tensor:
    """Barlow Twins' standardisation: biased variance, eps 1e-5."""
    return F.batch_norm(z, None, None, training=True)


def unbiased(z: Tensor) -> Tensor:
    """Mixed Barlow Twins', HSIC-SSL's and the multi-augmentation code's standardisation."""
    return (z - z.mean(dim=0)) / z.std(dim=0)


def off_diagonal(c: Tensor) -> Tensor:
    """The D · (D - 1) entries off the diagonal of (D, D), without a mask."""
    dim = c.size(0)
    return c.flatten()[:-1].view(dim - 1, dim + 1)[:, 1:]


def redundancy(c: Tensor, target: float = 0.0) -> Tensor:
    """``Σ (1 - C_ii)² + λ Σ_{i≠j} (C_ij - target)²``."""
    on_diag = (c.diagonal() - 1).square().sum()
    return on_diag + LAMB * (off_diagonal(c) - target).square().sum()


def barlow_twins(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """Facebookresearch/barlowtwins."""
    a, b = map(batch_norm, views)
    return redundancy(a.T @ b / len(a))


def hsic_ssl(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """Barlow-Twins-HSIC with ``--corr_neg_one``."""
    a, b = map(unbiased, views)
    return redundancy(a.T @ b / len(a), target=-1.0)


def mixbt(views: Sequence[Tensor], *, perm: Tensor, mix: float = 0.3) -> Tensor:
    """Mix-bt's main.py: five more D x D products for the mixture and its targets."""
    a, b, m = map(unbiased, views)
    n = len(a)
    squares = a.new_zeros(())
    for view in (a, b):
        target = mix * (a.T @ view) / n + (1 - mix) * (b[perm].T @ view) / n
        squares = squares + (m.T @ view / n - target).square().sum()
    return redundancy(a.T @ b / n) + 4.0 * LAMB * squares


def multiaug_barlow_twins(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """The multi-augmentation code for more than two views."""
    standardized = unbiased(torch.cat(list(views))).chunk(len(views))
    mean_view = torch.stack(standardized).mean(dim=0)
    n = len(mean_view)
    diagonals = torch.stack([(z * mean_view).sum(dim=0) / n for z in standardized])
    c = mean_view.T @ mean_view / n
    return (diagonals - 1).square().sum() / len(views) + LAMB * off_diagonal(c).square().sum()


def vicreg(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """Facebookresearch/vicreg with the weights 25, 25, 1, its variance term not halved."""
    loss = 25.0 * F.mse_loss(views[0], views[1])
    for z in views:
        centered = z - z.mean(dim=0)
        c = centered.T @ centered / (len(z) - 1)
        loss = loss + 25.0 * F.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()
        loss = loss + off_diagonal(c).square().sum() / z.size(1)
    return loss
