"""The views of a batch of images, made on tensors, on whatever device they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mixbt_plugin.devices import send
from mixbt_plugin.views import color
from mixbt_plugin.views.blur import gaussian_blur
from mixbt_plugin.views.parameters import NO_JITTER, ViewParameters, draw_parameters
from mixbt_plugin.views.resampling import resample, resample_one, resampling_matrices
from mixbt_plugin.views.view_settings import ViewSettings

CHUNK = {"cpu": 2**17, "cuda": 2**24}
"""Pixels that are worked on at a time: on a CPU as many as its caches hold."""


class BatchAugmentation:
    """solo-learn's augmentation pipelines for whole batches, each view with its own parameters.

    Order of the operations, their distributions and their arithmetic are those of solo-learn's
    pipelines of torchvision and Pillow (solo/data/pretrain_dataloader.py). Views are drawn on the
    CPU, by `draw`, and computed where the images are, by calling the object.

    Args:
        pipelines: as many as the config has ``augmentations``.
    """

    def __init__(self, pipelines: Sequence[ViewSettings]) -> None:
        self.pipelines = tuple(pipelines)

    def draw(
        self, sizes: Sequence[Sequence[int]], generator: np.random.Generator
    ) -> list[ViewParameters]:
        """Draws the views of a batch.

        Args:
            sizes: height and width of each image.
            generator: what is drawn depends on nothing else.

        Returns:
            The parameters for each pipeline.
        """
        heights, widths = np.array(sizes, dtype=np.int64).T
        return [
            draw_parameters(settings, heights, widths, generator) for settings in self.pipelines
        ]

    def crop(self, images: Sequence[Tensor], drawn: Sequence[ViewParameters]) -> list[Tensor]:
        """Only the crops, of images that may differ in size, on the CPU.

        Args:
            images: n of uint8 (3, H, W), best views of (H, W, 3).
            drawn: by `draw`, for these images.

        Returns:
            For each pipeline uint8 (N, 3, h, w), in the order of its parameters.

        Raises:
            ValueError: whole images are taken at one length of their shorter side, and their shapes
                differ.
        """
        crops = []
        for settings, views in zip(self.pipelines, drawn):
            sizes = {settings.view_size(*image.shape[1:]) for image in images}
            if len(sizes) > 1:
                raise ValueError(
                    f"augmentations: with rrc.enabled=false and crop_size={settings.crop_size[0]} "
                    "images of different shapes become views of different shapes: give crop_size "
                    "as [height, width]."
                )
            (size,) = sizes
            crops.append(
                torch.stack(
                    [
                        resample_one(images[image], box, size, flip)
                        for image, box, flip in zip(
                            views.image.tolist(), views.box.tolist(), views.flip.tolist()
                        )
                    ]
                )
            )
        return crops

    def __call__(
        self, images: Tensor | Sequence[Tensor], drawn: Sequence[ViewParameters]
    ) -> list[Tensor]:
        """Computes the views.

        Args:
            images: uint8 (n, 3, H, W); or what `crop` made of the images.
            drawn: by `draw`, for these images.

        Returns:
            ``sum(num_crops)`` normalised views (n, 3, h, w), float32, in the order of solo-learn's.
        """
        views: list[Tensor] = []
        for position, (settings, parameters) in enumerate(zip(self.pipelines, drawn)):
            source = images if isinstance(images, Tensor) else images[position]
            made = _pipeline(settings, source, parameters, cropped=source is not images)
            views += made.view(settings.num_crops, -1, *made.shape[1:]).unbind()
        return views


def _pipeline(
    settings: ViewSettings, source: Tensor, views: ViewParameters, cropped: bool
) -> Tensor:
    size = settings.view_size(*source.shape[-2:])
    count, device = len(views.view), source.device
    mean, std = (send(torch.tensor(v), device).view(3, 1, 1) for v in (settings.mean, settings.std))
    result = torch.empty(count, 3, *size, device=device)
    largest = max(size[0] * size[1], 0 if cropped else source.shape[-2] * source.shape[-1])
    step = max(1, CHUNK.get(device.type, CHUNK["cpu"]) // largest)
    tensors = views.on(device)
    for first in range(0, count, step):
        rows = slice(first, first + step)
        chunk = tensors.rows(rows)
        x = source[rows].float() if cropped else _crop(source, chunk, size)
        x = _change_colors(settings, x, views.rows(rows), chunk)
        result.index_copy_(0, chunk.view, x.div_(255).sub_(mean).div_(std))
    return result


def _crop(images: Tensor, views: ViewParameters, size: tuple[int, int]) -> Tensor:
    top, left, height, width = views.box.unbind(dim=1)
    rows = resampling_matrices(top, height, images.shape[-2], size[0])
    columns = resampling_matrices(left, width, images.shape[-1], size[1], views.flip)
    return resample(images.index_select(0, views.image), rows, columns)


def _change_colors(
    settings: ViewSettings, x: Tensor, views: ViewParameters, tensors: ViewParameters
) -> Tensor:
    if settings.color_jitter:
        bounds = np.searchsorted(views.hue_turn, range(NO_JITTER + 1)).tolist()
        x = color.color_jitter(x, tensors.factors, tensors.order, bounds)
    blurred = views.sigma > 0
    for chosen, operation in (
        (views.gray, color.grayscale),
        (blurred, lambda part: gaussian_blur(part, views.sigma[blurred])),
        (views.solarize, color.solarize),
        (views.equalize, color.equalize),
    ):
        if chosen.any():
            rows = send(torch.from_numpy(chosen.nonzero()[0]), x.device)
            x.index_copy_(0, rows, operation(x.index_select(0, rows)))
    return x
