"""Pillow's Gaussian blur of a batch, each view with its own radius.

Pillow approximates the Gaussian by three passes of a box whose edges count in part (BoxBlur.c).
That is linear, so a radius is one matrix for both directions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbt_plugin.devices import send

PASSES = 3
TILE = 64


def box_radius(sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius of the box whose three passes have the variance ``sigma²``: ``l + a``, l whole.

    As ``_gaussian_blur_radius`` of Pillow's BoxBlur.c.
    """
    variance = sigma**2 / PASSES
    whole = np.floor((np.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    radius: NDArray[np.float64] = whole + part / (6 * (variance - (whole + 1) ** 2))
    return radius


def box_matrices(radius: Tensor, size: int, reach: int) -> Tensor:
    """One pass over ``size`` pixels, beyond which the edge is repeated: (N, size, size).

    Args:
        radius: (N,), at most ``reach``.
        size: of the image.
        reach: the farthest pixel that a box touches.
    """
    pixel = torch.arange(size, dtype=torch.float32, device=radius.device)
    radius = radius.view(-1, 1, 1)
    width = 2 * radius + 1

    def weight(distance: Tensor) -> Tensor:
        return ((radius + 1 - distance).clamp_(0, 1)) / width

    matrices = weight((pixel[:, None] - pixel).abs())
    for beyond in range(1, reach + 1):
        matrices[:, :, :1] += weight((pixel + beyond)[:, None])
        matrices[:, :, -1:] += weight((size - 1 - pixel + beyond)[:, None])
    return matrices


def gaussian_blur(images: Tensor, sigma: NDArray[np.float64]) -> Tensor:
    """Blurs each image with its own standard deviation.

    Args:
        images: float32 (N, C, H, W) of whole levels.
        sigma: (N,), positive, in pixels, what Pillow calls the radius.

    Returns:
        New images of whole levels.
    """
    height, width = images.shape[-2:]
    box = box_radius(sigma)
    reach = int(box.max()) + 1
    radius = send(torch.from_numpy(box).float(), images.device)
    rows = _three_passes(radius, height, reach)
    columns = rows if width == height else _three_passes(radius, width, reach)
    blurred = _along_the_last_axis(images, columns.mT, PASSES * reach)
    return _along_the_last_axis(blurred.mT, rows.mT, PASSES * reach).mT.contiguous()


def _along_the_last_axis(images: Tensor, matrices: Tensor, reach: int) -> Tensor:
    x = banded_product(images.flatten(1, 2), matrices, reach)
    return x.add_(0.5).floor_().view(images.shape)


def banded_product(x: Tensor, matrices: Tensor, reach: int) -> Tensor:
    """``x @ matrices``, where entries farther than ``reach`` from the diagonal are zero.

    Args:
        x: (N, m, n).
        matrices: (N, n, n).
        reach: number of diagonals on either side.
    """
    size = x.shape[-1]
    tiles = []
    for first in range(0, size, TILE):
        last = min(first + TILE, size)
        near = slice(max(first - reach, 0), last + reach)
        tiles.append(x[:, :, near] @ matrices[:, near, first:last])
    return torch.cat(tiles, dim=-1) if len(tiles) > 1 else tiles[0]


def _three_passes(radius: Tensor, size: int, reach: int) -> Tensor:
    box = box_matrices(radius, size, reach)
    return banded_product(banded_product(box, box, reach), box, reach)
