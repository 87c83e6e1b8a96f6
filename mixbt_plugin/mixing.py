"""Linear mixing of the two views of a batch (arXiv 2312.02151, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixbt_plugin.devices import send

__all__ = ["Mixing", "draw_mixing", "mix_images"]


class Mixing(NamedTuple):
    """How a batch of N images is mixed.

    Attributes:
        coefficient: share of the first view in [0, 1], a number for the whole batch or a tensor
            of float32, () or (N,).
        perm: int64 (N,), the shuffle of the second view.
    """

    coefficient: float | Tensor
    perm: Tensor

    def to(self, device: torch.device) -> Mixing:
        """The same on another device; the host does not wait for an accelerator to take it."""
        mix = self.coefficient
        mix = send(mix, device) if isinstance(mix, Tensor) else mix
        return Mixing(mix, send(self.perm, device))


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
        The coefficient, a number unless ``per_sample``, and the permutation, on the CPU.

    Raises:
        ValueError: ``alpha`` is not positive, or one of ``seed`` is negative.

    Example:
        >>> mixing = draw_mixing(4, seed=(1, 0, 0, 7))  # seed, process, epoch, batch
        >>> sorted(mixing.perm.tolist())
        [0, 1, 2, 3]
    """
    generator = np.random.default_rng(list(seed))
    drawn = generator.beta(alpha, alpha, size=batch_size if per_sample else None)
    coefficient = torch.as_tensor(drawn, dtype=torch.float32) if per_sample else float(drawn)
    return Mixing(coefficient, torch.from_numpy(generator.permutation(batch_size)))


def mix_images(x_a: Tensor, x_b: Tensor, mixing: Mixing) -> Tensor:
    """``x_m = mix · x_a + (1 - mix) · x_b[perm]``.

    Args:
        x_a: images of the first view, (N, C, H, W), floating-point.
        x_b: images of the second view, of the same shape.
        mixing: coefficient and permutation, on the images' device or the CPU.

    Returns:
        Mixed images of the shape, type and device of ``x_a``.

    Example:
        >>> import torch
        >>> mixing = Mixing(0.25, torch.tensor([1, 0]))
        >>> mix_images(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), mixing)[0, 0, 0, 0].item()
        0.75
    """
    mix, perm = mixing.to(x_a.device)
    if isinstance(mix, Tensor):
        mix = mix.to(x_a.dtype).view(-1, *[1] * (x_a.dim() - 1))
    return x_b[perm].lerp_(x_a, mix)
