"""Augmentation entries and photographs for the tests of views."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from mixbt_plugin.data.sources import load_photo_patches
from mixbt_plugin.host import build_transform_pipeline
from mixbt_plugin.views import ViewSettings

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PROBABILITIES = ("grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")


def entry(crop_size: Any = 32, num_crops: int = 1, **changes: Any) -> dict[str, Any]:
    """An entry of ``augmentations``: a crop alone, but for the given ``group__key=value``."""
    values: dict[str, Any] = {
        "rrc": {"enabled": True, "crop_min_scale": 0.08, "crop_max_scale": 1.0},
        "color_jitter": {
            **{"prob": 0.0, "brightness": 0.4, "contrast": 0.4},
            **{"saturation": 0.2, "hue": 0.1},
        },
        **{name: {"prob": 0.0} for name in PROBABILITIES},
        "crop_size": crop_size,
        "num_crops": num_crops,
        "mean": MEAN,
        "std": STD,
    }
    for key, value in changes.items():
        group, _, part = key.partition("__")
        if part:
            values[group] = {**values[group], part: value}
        else:
            values[group] = value
    return values


EVERYTHING = {
    "color_jitter__prob": 0.8,
    "grayscale__prob": 0.2,
    "gaussian_blur__prob": 0.5,
    "solarization__prob": 0.2,
    "equalization__prob": 0.1,
    "horizontal_flip__prob": 0.5,
}


def settings(*arguments: Any, **changes: Any) -> ViewSettings:
    return ViewSettings.read(entry(*arguments, **changes), MEAN, STD)


def pil_pipeline(*arguments: Any, **changes: Any) -> Any:
    """The host's pipeline of the same entry."""
    return build_transform_pipeline("custom", OmegaConf.create(entry(*arguments, **changes)))


@cache
def patches() -> Tensor:
    """Colour patches of photographs, uint8 (60, 3, 32, 32)."""
    return torch.from_numpy(load_photo_patches("train", True).images[:60]).permute(0, 3, 1, 2)


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy().astype(np.uint8)))


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
