"""Augmentation pipelines from the ``augmentations`` of a config."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig
from PIL import Image, ImageFilter, ImageOps
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision import transforms


def gaussian_blur(image: Image.Image) -> Image.Image:
    """Blurs with a radius drawn from [0.1, 2] pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


def build_transform_pipeline(dataset: str, cfg: DictConfig) -> Callable[[Image.Image], Tensor]:
    """One pipeline of the config's ``augmentations``, with solo-learn's keys and order.

    Args:
        dataset: solo-learn takes mean and standard deviation from it; here they are ``cfg.mean``
            and ``cfg.std``, or ImageNet's, and `mixbt_plugin.data` puts in the data set's.
        cfg: one entry of ``augmentations``.

    Returns:
        A function from a PIL image to a normalised tensor (3, crop_size, crop_size).
    """
    mean, std = cfg.get("mean", IMAGENET_DEFAULT_MEAN), cfg.get("std", IMAGENET_DEFAULT_STD)
    bicubic = transforms.InterpolationMode.BICUBIC
    if cfg.rrc.enabled:
        scale = (cfg.rrc.crop_min_scale, cfg.rrc.crop_max_scale)
        crop: Any = transforms.RandomResizedCrop(cfg.crop_size, scale, interpolation=bicubic)
    else:
        crop = transforms.Resize(cfg.crop_size, interpolation=bicubic)
    steps = [crop]

    if cfg.color_jitter.prob:
        jitter = cfg.color_jitter
        color = transforms.ColorJitter(
            jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
        )
        steps.append(transforms.RandomApply([color], p=jitter.prob))
    if cfg.grayscale.prob:
        steps.append(transforms.RandomGrayscale(p=cfg.grayscale.prob))
    for name, operation in (
        ("gaussian_blur", gaussian_blur),
        ("solarization", ImageOps.solarize),
        ("equalization", ImageOps.equalize),
    ):
        if cfg[name].prob:
            steps.append(transforms.RandomApply([operation], p=cfg[name].prob))
    if cfg.horizontal_flip.prob:
        steps.append(transforms.RandomHorizontalFlip(p=cfg.horizontal_flip.prob))
    steps += [transforms.ToTensor(), transforms.Normalize(mean, std)]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return composed


class NCropAugmentation:
    """Applies a pipeline ``num_crops`` times: an image to a list of views."""

    def __init__(self, transform: Callable[[Any], Tensor], num_crops: int) -> None:
        self.transform = transform
        self.num_crops = num_crops

    def __call__(self, image: Any) -> list[Tensor]:
        """The views of an image."""
        return [self.transform(image) for _ in range(self.num_crops)]

    def __repr__(self) -> str:
        return f"{self.num_crops} x [{self.transform}]"


class FullTransformPipeline:
    """Applies several `NCropAugmentation`: an image to the list of all their views."""

    def __init__(self, transforms: Sequence[Callable[[Any], list[Tensor]]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> list[Tensor]:
        """The views of an image."""
        return [view for transform in self.transforms for view in transform(image)]

    def __repr__(self) -> str:
        return "\n".join(map(str, self.transforms))
