"""Linear mixing of the two views of a batch (arXiv 2312.02151, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mixing(NamedTuple):
    """How a batch of N images is mixed.

    Attributes:
        coefficient: share of the first view, float32, () for the whole batch or (N,), in [0, 1].
        perm: int64 (N,), the shuffle of the second view.

    Both are on the CPU.
    """

    coefficient: Tensor
    perm: Tensor


def draw_mixing(
    batch_size: int, *, alpha: float = 1.0, per_sample: bool = False, seed: Sequence[int] = (0,)
) -> Mixing:
    """Draws a coefficient from Beta(alpha, alpha) and a uniform permutation.

    The draw is a function of ``seed`` alone: it neither reads nor moves a global random state, so
    that a run which is resumed draws what the uninterrupted one would have drawn.

    Args:
        batch_size: N.
        alpha: 1 is the uniform distribution of the official code (mix-bt main.py:65).
        per_sample: one coefficient for each image instead of one for the batch.
        seed: non-negative integers, such as (seed, rank, epoch, batch).

    Returns:
        The coefficient and the permutation.
    """
    generator = np.random.default_rng(list(seed))
    coefficient = generator.beta(alpha, alpha, size=batch_size if per_sample else None)
    perm = generator.permutation(batch_size)
    return Mixing(torch.as_tensor(coefficient, dtype=torch.float32), torch.from_numpy(perm))


def mix_images(x_a: Tensor, x_b: Tensor, mixing: Mixing) -> Tensor:
    """``x_m = mix · x_a + (1 - mix) · x_b[perm]``.

    Args:
        x_a: images of the first view, (N, C, H, W).
        x_b: images of the second view, of the same shape.
        mixing: coefficient and permutation.

    Returns:
        Mixed images of the shape, type and device of ``x_a``.
    """
    mix = mixing.coefficient.to(x_a)
    if mix.dim():
        mix = mix.view(-1, *[1] * (x_a.dim() - 1))
    return torch.lerp(x_b[mixing.perm.to(x_b.device)], x_a, mix)
