"""What is drawn for the views of a batch, distributed as torchvision's transforms draw it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mixbt_plugin.devices import send
from mixbt_plugin.views.view_settings import ViewSettings

RATIO = (3 / 4, 4 / 3)
TRIES = 10
SIGMA = (0.1, 2.0)
"""The Gaussian blur's in solo-learn, in pixels."""
HUE = 3
NO_HUE, NO_JITTER = 4, 5

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ViewParameters(NamedTuple):
    """The views of one pipeline, N = num_crops x images, in the order in which they are computed.

    Arrays; or, by `on`, tensors.

    Attributes:
        view: (N,), a view's place in the result: crop after crop, in each all images.
        image: (N,), the image's place in the batch.
        box: (N, 4), top, left, height and width of the crop.
        flip: (N,), mirrored.
        factors: (N, 4), of brightness, contrast and saturation, where 1 is no change, and the shift
            of the hue in [-0.5, 0.5] of a circle.
        order: (N, 4), the order of those four.
        hue_turn: (N,), at which of the four turns the hue is shifted; `NO_HUE`, or `NO_JITTER` for
            no jitter at all. It never decreases: views with the same work stand together.
        gray: (N,), made grey.
        sigma: (N,), of the Gaussian blur; 0 is none.
        solarize: (N,).
        equalize: (N,).
    """

    view: Any
    image: Any
    box: Any
    flip: Any
    factors: Any
    order: Any
    hue_turn: Any
    gray: Any
    sigma: Any
    solarize: Any
    equalize: Any

    def rows(self, index: slice) -> ViewParameters:
        """Some of the views."""
        return ViewParameters(*(values[index] for values in self))

    def on(self, device: torch.device) -> ViewParameters:
        """As tensors on a device, numbers in float32."""
        tensors = (torch.from_numpy(values) for values in self)
        return ViewParameters(
            *(
                send(tensor.float() if tensor.is_floating_point() else tensor, device)
                for tensor in tensors
            )
        )


def draw_parameters(
    settings: ViewSettings, heights: Ints, widths: Ints, generator: np.random.Generator
) -> ViewParameters:
    """Draws the views of a batch of n images.

    Args:
        settings: of the pipeline.
        heights: (n,), of the images.
        widths: (n,).
        generator: what is drawn depends on nothing else.

    Returns:
        ``settings.num_crops * n`` views.
    """
    image = np.tile(np.arange(len(heights)), settings.num_crops)
    heights, widths = heights[image], widths[image]
    count = len(image)

    def happens(probability: float) -> Bools:
        return generator.random(count) < probability

    if settings.scale is None:
        box = np.stack([0 * heights, 0 * widths, heights, widths], axis=1)
    else:
        box = draw_boxes(heights, widths, settings.scale, generator)
    jitter = happens(settings.color_jitter)
    order = generator.random((count, 4)).argsort(axis=1)
    factors = _draw_factors(settings, count, generator)
    hue_turn = (order == HUE).argmax(axis=1) if settings.hue else np.full(count, NO_HUE)
    hue_turn[~jitter] = NO_JITTER
    gray = happens(settings.grayscale)
    sigma = generator.uniform(*SIGMA, count) * happens(settings.gaussian_blur)
    solarize, equalize = happens(settings.solarization), happens(settings.equalization)
    flip = happens(settings.horizontal_flip)
    drawn = ViewParameters(
        *(np.arange(count), image, box, flip, factors, order, hue_turn),
        *(gray, sigma, solarize, equalize),
    )
    together = hue_turn.argsort(kind="stable")
    return ViewParameters(*(values[together] for values in drawn))


def draw_boxes(
    heights: Ints, widths: Ints, scale: tuple[float, float], generator: np.random.Generator
) -> Ints:
    """Crops as torchvision's ``RandomResizedCrop.get_params``: ten tries, then a central crop.

    Args:
        heights: (N,), of the images.
        widths: (N,).
        scale: least and largest share of an image's area.
        generator: drawn from.

    Returns:
        (N, 4): top, left, height and width.
    """
    count = len(heights)
    area = (heights * widths)[:, None] * generator.uniform(*scale, (count, TRIES))
    ratio = np.exp(generator.uniform(np.log(RATIO[0]), np.log(RATIO[1]), (count, TRIES)))
    w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (w > 0) & (w <= widths[:, None]) & (h > 0) & (h <= heights[:, None])
    first = np.arange(count), fits.argmax(axis=1)
    found = fits.any(axis=1)

    central_w = np.minimum(widths, np.rint(heights * RATIO[1]))
    central_h = np.minimum(heights, np.rint(widths / RATIO[0]))
    w = np.where(found, w[first], central_w).astype(np.int64)
    h = np.where(found, h[first], central_h).astype(np.int64)
    place = generator.random((2, count))
    place[:, ~found] = 0.5
    # Where the place is drawn it is uniform over the whole numbers 0 to the margin.
    top, left = (
        (place * np.where(found, margin + 1, margin)).astype(np.int64)
        for place, margin in zip(place, (heights - h, widths - w))
    )
    return np.stack([top, left, h, w], axis=1)


def _draw_factors(settings: ViewSettings, count: int, generator: np.random.Generator) -> Floats:
    amounts = np.array([settings.brightness, settings.contrast, settings.saturation])
    low = np.append(np.maximum(0, 1 - amounts), -settings.hue)
    high = np.append(1 + amounts, settings.hue)
    return generator.uniform(low, high, (count, 4))
