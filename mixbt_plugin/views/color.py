"""Changes of colour of a batch, each view by its own amount, in Pillow's arithmetic.

Images are float32 (N, 3, H, W) of whole levels 0 to 255. Pillow computes in 8 bits: every operation
ends in whole levels, and so does every one here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from mixbt_plugin.devices import send

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luminance(images: Tensor) -> Tensor:
    """Pillow's mode ``L``, (N, 1, H, W): weights of 16 bits, with which float32 is exact."""
    red, green, blue = images.split(1, dim=1)
    return (
        (red * (19595 / 65536))
        .add_(green, alpha=38470 / 65536)
        .add_(blue, alpha=7471 / 65536)
        .add_(0.5)
        .floor_()
    )


def color_jitter(images: Tensor, factors: Tensor, order: Tensor, bounds: Sequence[int]) -> Tensor:
    """Brightness, contrast, saturation and hue, in an order of each image's own.

    As torchvision's ``ColorJitter`` on PIL images. The images are sorted by the turn of their hue.

    Args:
        images: changed in place.
        factors: (N, 4), of brightness, contrast and saturation, where 1 is no change, and the shift
            of the hue in [-0.5, 0.5] of a circle.
        order: int64 (N, 4), which of the four is the first, second, … of an image.
        bounds: the hue of images ``bounds[t]`` to ``bounds[t + 1]`` is shifted at turn t, 0 to 3,
            that of images ``bounds[4]`` to ``bounds[5]`` never; later images are left as they are.

    Returns:
        The images.
    """
    for turn in range(4):
        first, last = bounds[turn], bounds[turn + 1]
        for rows in (slice(0, first), slice(last, bounds[5])):
            if rows.start < rows.stop:
                _blend(images[rows], factors[rows], order[rows, turn])
        if first < last:
            images[first:last] = shift_hue(images[first:last], factors[first:last, HUE])
    return images


def _blend(images: Tensor, factors: Tensor, operation: Tensor) -> None:
    """Draws images in place away from, or towards, black, their mean grey or their grey version.

    So one statement does brightness, contrast or saturation, whichever is an image's turn.
    """
    factor = factors.gather(1, operation[:, None])[:, 0]
    factor = torch.where(operation == HUE, 1.0, factor).view(-1, 1, 1, 1)
    grey = luminance(images)
    mean = grey.mean(dim=(1, 2, 3)).add_(0.5).floor_()
    offset = (operation == CONTRAST) * mean
    black_or_grey = grey.mul_((operation == SATURATION).float().view(-1, 1, 1, 1))
    degenerate = black_or_grey.add_(offset.view(-1, 1, 1, 1))
    images.sub_(degenerate).mul_(factor).add_(degenerate).clamp_(0, 255).floor_()


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue by ``shift`` of a full circle.

    As ``rgb2hsv_row`` and ``hsv2rgb_row`` of Pillow's Convert.c, with hue and saturation in 8 bits.

    Args:
        images: levels.
        shift: (N,) in [-0.5, 0.5].

    Returns:
        New images.
    """
    # Products with zeros and ones stand for torch.where, which takes ten times as long on a CPU.
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    not_red, not_green = (value - red).clamp_(max=1), (value - green).clamp_(max=1)
    hue = not_green * (red - green + 4 * chroma)
    hue += (1 - not_green) * (blue - red + 2 * chroma)
    hue = hue.mul_(not_red).add_((1 - not_red) * (green - blue))
    hue.div_(6 * chroma.clamp(min=1))
    hue = hue.sub_(hue.floor()).mul_(255).floor_()
    hue.add_((shift * 255).trunc().view(-1, 1, 1))
    hue = hue.sub_((hue / 256).floor_().mul_(256)).mul_(6 / 255)
    saturation = (255 * chroma).div_(value.clamp(min=1)).floor_().div_(255)

    # f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + h) mod 6, of red, green and blue.
    offsets = send(torch.tensor([5.0, 3.0, 1.0]), images.device).view(3, 1, 1)
    k = hue[:, None] + offsets
    k.sub_((k / 6).floor_().mul_(6))
    ramp = k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    value, saturation = value[:, None], saturation[:, None]
    return ramp.mul_(-saturation * value).add_(value).add_(0.5).floor_()


def grayscale(images: Tensor) -> Tensor:
    """Three equal channels of the `luminance`."""
    return luminance(images).expand_as(images)


def solarize(images: Tensor) -> Tensor:
    """Inverts the levels from 128 on, as Pillow's ``ImageOps.solarize``."""
    return 127.5 - (images - 127.5).abs()


def equalize(images: Tensor) -> Tensor:
    """Equalises each channel's histogram, as Pillow's ``ImageOps.equalize``."""
    return tv.equalize(images.to(torch.uint8)).float()
