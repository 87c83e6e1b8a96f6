"""Products ZZᵀ: of what is symmetric, half is computed."""

from __future__ import annotations

from functools import cache

from torch import Tensor


def add_lower_(product: Tensor, z: Tensor) -> None:
    """Adds ZZᵀ to the lower triangle of ``product``; what lies above it is undefined after.

    Args:
        product: (N, N), is changed.
        z: (N, K).
    """
    for start, stop in _row_blocks(len(z)):
        product[start:stop, :stop].addmm_(z[start:stop], z[:stop].T)


def mirror_lower_(product: Tensor) -> None:
    """Copies the lower triangle of ``product``, (N, N), to what lies above it."""
    for start, stop in _row_blocks(len(product)):
        product[:start, start:stop] = product[start:stop, :start].T


@cache
def computed_share(rows: int) -> float:
    """Which part of the entries of ZZᵀ, (rows, rows), `add_lower_` computes."""
    return sum((stop - start) * stop for start, stop in _row_blocks(rows)) / rows**2


def _row_blocks(rows: int) -> list[tuple[int, int]]:
    """Four blocks, unless they are so low that products slow down: 5/8 are then computed."""
    height = max(128, -(-rows // 4))
    return [(start, min(start + height, rows)) for start in range(0, rows, height)]
