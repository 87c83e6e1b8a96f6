"""Crops brought to one size, as Pillow resamples them, for a whole batch at once.

A crop that is resized is linear and separable in the pixels: ``rows @ image @ columnsᵀ``. One pair
of matrices for each view holds its box, its mirroring and the antialiased bicubic filter, so that
crops of all places and sizes are two batched matrix products, on any device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def bicubic(distance: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, Pillow's, at distances in samples."""
    t = (2 - distance.abs()).clamp_(min=0)
    u = (t - 1).clamp_(min=0)
    # (t³ - t²) / 2 is the kernel between 1 and 2; nearer, where u > 0, u² - 2u³ is added.
    outer = (t - 1).mul_(t).mul_(t).mul_(0.5)
    return (1 - 2 * u).mul_(u).mul_(u).add_(outer)


def resampling_matrices(
    start: Tensor, length: Tensor, size: int, out_size: int, mirrored: Tensor | None = None
) -> Tensor:
    """Weights by which rows (or columns) ``start … start + length`` become ``out_size`` ones.

    As ``precompute_coeffs`` of Pillow's Resample.c: where a crop is made smaller the filter is
    widened (antialiasing), and it never reads outside the crop.

    Args:
        start: (N,), first row of each crop.
        length: (N,), number of its rows.
        size: rows of the image.
        out_size: rows of the view.
        mirrored: (N,) of bool, which views are flipped.

    Returns:
        float32 (N, out_size, size).
    """
    start, length = (value.to(torch.float32)[:, None, None] for value in (start, length))
    out = torch.arange(out_size, dtype=torch.float32, device=start.device)
    if mirrored is not None:
        out = torch.where(mirrored[:, None], out_size - 1 - out, out)
    scale = length / out_size
    center = (out.view(-1, out_size, 1) + 0.5) * scale
    position = torch.arange(size, dtype=torch.float32, device=start.device) - start
    inside = (position >= 0) & (position < length)
    far_outside = torch.full_like(position, 1e6)
    position = torch.where(inside, position + 0.5, far_outside)
    support = scale.clamp(min=1)
    weights = bicubic(position / support - center / support)
    return weights.div_(weights.sum(dim=-1, keepdim=True))


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Applies `resampling_matrices`, rounding to whole levels after each pass, as Pillow does.

    Columns come first. Newer versions of Pillow begin with the rows where a crop is made lower, so
    that a few pixels then differ by a level, and by some at edges where the filter overshoots.

    Args:
        images: (N, C, H, W) of levels 0 to 255.
        rows: (N, h, H).
        columns: (N, w, W).

    Returns:
        float32 (N, C, h, w) of whole levels.
    """
    n, channels, height = images.shape[:3]
    x = images.float().flatten(1, 2) @ columns.mT
    x = _whole_levels(x).view(n, channels, height, -1)
    return _whole_levels(rows[:, None] @ x)


def resample_one(
    image: Tensor, box: Sequence[int], size: Sequence[int], mirrored: bool = False
) -> Tensor:
    """A crop of one image, by torch's native kernel for uint8, which is Pillow's arithmetic too.

    Args:
        image: uint8 (C, H, W), best a view of (H, W, C).
        box: top, left, height and width of the crop.
        size: height and width of the view.
        mirrored: whether it is flipped.

    Returns:
        uint8 (C, h, w).
    """
    top, left, height, width = box
    crop = image[None, :, top : top + height, left : left + width]
    view = F.interpolate(crop, size=list(size), mode="bicubic", antialias=True)[0]
    return view.flip(-1) if mirrored else view


def _whole_levels(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)
