"""Each operation, with given parameters, against Pillow's on the same images, in levels of 255."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional as tv
from torchvision.transforms.functional import InterpolationMode

from mixbt_plugin.views import color
from mixbt_plugin.views.blur import gaussian_blur
from mixbt_plugin.views.parameters import NO_JITTER
from mixbt_plugin.views.resampling import resample, resample_one, resampling_matrices
from tests.views.pipelines import patches, pil, tensor

N = 60


def by_pillow(operation: Callable[..., Image.Image], *arguments: Any) -> Tensor:
    """An operation on each patch, with its own arguments."""
    return torch.stack(
        [
            tensor(operation(pil(image), *(values[n] for values in arguments)))
            for n, image in enumerate(patches())
        ]
    )


def assert_levels(ours: Tensor, theirs: Tensor, most: float, share: float) -> None:
    """At most ``share`` of the pixels differ, by at most ``most`` levels."""
    difference = (ours - theirs).abs()
    assert difference.max() <= most
    assert (difference > 0).float().mean() <= share


def boxes(seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 33, (2, N))
    top, left = (generator.random((2, N)) * (33 - np.stack([height, width]))).astype(int)
    return np.stack([top, left, height, width], axis=1).tolist()


@pytest.mark.parametrize(
    "size,most,share",
    [((32, 32), 0, 0), ((80, 80), 2, 2e-4), ((12, 12), 8, 0.1), ((20, 28), 8, 0.1)],
)
def test_resized_crops_are_pillows(size: tuple[int, int], most: float, share: float) -> None:
    # Where a crop is made lower, Pillow 13 may begin with the rows, which rounds otherwise.
    def crop(image: Image.Image, box: list[int], mirrored: bool) -> Image.Image:
        view = tv.resized_crop(image, *box, list(size), InterpolationMode.BICUBIC)
        return tv.hflip(view) if mirrored else view

    flip = torch.arange(N) % 3 == 0
    theirs = by_pillow(crop, boxes(), flip.tolist())
    top, left, height, width = torch.tensor(boxes()).T
    rows = resampling_matrices(top, height, 32, size[0])
    columns = resampling_matrices(left, width, 32, size[1], flip)
    assert_levels(resample(patches(), rows, columns), theirs, most, share)
    one_by_one = torch.stack(
        [
            resample_one(image, box, size, mirrored)
            for image, box, mirrored in zip(patches(), boxes(), flip.tolist())
        ]
    )
    # torch's kernel for uint8 has weights of 16 bits.
    assert_levels(one_by_one.float(), theirs, most + 1, share + 0.003)


def jitter_one(operation: int, factors: Tensor) -> Tensor:
    values = torch.ones(N, 4)
    values[:, 3] = 0
    values[:, operation] = factors
    order = torch.tensor([[operation, *(o for o in range(4) if o != operation)]]).repeat(N, 1)
    bounds = [0, N, N, N, N, N] if operation == color.HUE else [0, 0, 0, 0, 0, N]
    return color.color_jitter(patches().float(), values, order, bounds)


@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
def test_brightness_contrast_and_saturation_are_pillows(operation: str) -> None:
    factors = torch.linspace(0, 2, N)
    theirs = by_pillow(getattr(tv, f"adjust_{operation}"), factors.tolist())
    ours = jitter_one(("brightness", "contrast", "saturation").index(operation), factors)
    assert_levels(ours, theirs, most=1, share=0.002)


def test_hue_is_pillows() -> None:
    shifts = torch.linspace(-0.5, 0.5, N)
    theirs = by_pillow(tv.adjust_hue, shifts.tolist())
    assert_levels(jitter_one(color.HUE, shifts), theirs, most=6, share=0.002)


def test_hue_of_every_colour() -> None:
    levels = torch.arange(0, 256, 5)
    image = torch.cartesian_prod(levels, levels, levels).T.reshape(3, 52, -1)
    theirs = tensor(tv.adjust_hue(pil(image), 0.2))
    ours = color.shift_hue(image[None].float(), torch.tensor([0.2]))[0]
    assert_levels(ours, theirs, most=6, share=0.004)


def test_jitter_in_every_order() -> None:
    orders = torch.tensor(list(permutations(range(4))))[torch.arange(N) % 24]
    orders = orders[(orders == color.HUE).int().argmax(dim=1).argsort(stable=True)]
    turns = (orders == color.HUE).int().argmax(dim=1)
    generator = torch.Generator().manual_seed(0)
    factors = torch.rand(N, 4, generator=generator) * 0.8 + 0.6
    factors[:, 3] = (factors[:, 3] - 1) / 4

    def jitter(image: Image.Image, n: int) -> Image.Image:
        for operation in orders[n].tolist():
            name = ("brightness", "contrast", "saturation", "hue")[operation]
            image = getattr(tv, f"adjust_{name}")(image, factors[n, operation].item())
        return image

    bounds = [int((turns < turn).sum()) for turn in range(NO_JITTER)] + [N]
    ours = color.color_jitter(patches().float(), factors, orders, bounds)
    theirs = by_pillow(jitter, list(range(N)))
    # A level more or less before the hue's 8 bits is a few levels after them.
    assert_levels(ours, theirs, most=12, share=0.01)


def test_views_without_jitter_are_left_alone() -> None:
    factors, order = torch.full((N, 4), 0.5), torch.arange(4).repeat(N, 1)
    images = patches().float()
    bounds = [0, 0, 0, 0, 30, 40]
    ours = color.color_jitter(images.clone(), factors, order, bounds)
    assert torch.equal(ours[40:], images[40:])
    assert not torch.equal(ours[30:40], images[30:40])
    assert not torch.equal(ours[:30], images[:30])


@pytest.mark.parametrize(
    "ours,theirs",
    [
        (color.grayscale, lambda image: tv.rgb_to_grayscale(image, 3)),
        (color.solarize, ImageOps.solarize),
        (color.equalize, ImageOps.equalize),
    ],
)
def test_grey_solarised_and_equalised_are_pillows(ours: Any, theirs: Any) -> None:
    assert torch.equal(ours(patches().float()), by_pillow(theirs))


@pytest.mark.parametrize("size", [(32, 32), (90, 150), (3, 5)])
def test_blur_is_pillows(size: tuple[int, int]) -> None:
    def blur(image: Image.Image, sigma: float) -> Image.Image:
        return image.resize(size[::-1]).filter(ImageFilter.GaussianBlur(sigma))

    images = by_pillow(lambda image: image.resize(size[::-1]))
    sigma = np.linspace(0.1, 2, N)
    ours = gaussian_blur(images, sigma)
    # Pillow rounds after each of its six passes, we after each direction.
    theirs = by_pillow(blur, sigma.tolist())
    assert_levels(ours, theirs, most=2, share=0.4)
    assert (ours - theirs).mean().abs() < 0.05
