"""Alignment and uniformity of features on the unit sphere (arXiv 2005.10242)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 1024
"""Rows whose distances are held at a time."""


def alignment(z_a: Tensor, z_b: Tensor, *, power: float = 2.0) -> Tensor:
    """How far apart two views of an image are, ``mean ‖f(x) - f(y)‖^power`` (arXiv 2005.10242).

    Args:
        z_a: features (N, D); they are brought to length 1.
        z_b: those of the other views.
        power: the paper's α.

    Returns:
        0 where both views of every image are alike, 0-dim in float64.

    Example:
        >>> import torch
        >>> alignment(torch.eye(3), 2 * torch.eye(3)).item()  # directions count, not lengths
        0.0
    """
    a, b = F.normalize(z_a.detach().double()), F.normalize(z_b.detach().double())
    return (a - b).norm(dim=1).pow(power).mean()


def uniformity(z: Tensor, *, t: float = 2.0) -> Tensor:
    """How evenly features cover the sphere, ``log mean exp(-t ‖f(x) - f(y)‖²)``.

    The mean is over all pairs of different images (arXiv 2005.10242).

    Args:
        z: features (N, D), N >= 2; they are brought to length 1.
        t: the paper's t.

    Returns:
        0 where all are alike, lower where they spread, NaN for one image; 0-dim in float64.
    """
    z = F.normalize(z.detach().double())
    n = len(z)
    # Each row meets itself once, with exp(0) = 1.
    total = sum((-t * (2 - 2 * rows @ z.T).clamp(min=0)).exp().sum() for rows in z.split(ROWS))
    return torch.log((total - n) / (n * (n - 1))) if n > 1 else z.new_full((), math.nan)
