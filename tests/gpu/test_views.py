"""``data.augment=batch``: the views that the device computes are the CPU's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

for package in ("torchvision", "numpy"):
    pytest.importorskip(package)

import numpy as np

from mixbt_plugin.views import BatchAugmentation, ViewSettings

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
EVERYTHING = {
    "rrc": {"enabled": True, "crop_min_scale": 0.08, "crop_max_scale": 1.0},
    "color_jitter": {
        **{"prob": 0.8, "brightness": 0.4, "contrast": 0.4},
        **{"saturation": 0.2, "hue": 0.1},
    },
    "grayscale": {"prob": 0.2},
    "gaussian_blur": {"prob": 0.5},
    "solarization": {"prob": 0.2},
    "equalization": {"prob": 0.1},
    "horizontal_flip": {"prob": 0.5},
    "num_crops": 2,
}


@pytest.mark.parametrize("size", [32, 96])
def test_views_are_those_of_the_cpu(
    size: int, device: torch.device, figure: Callable[[str, float, float], None]
) -> None:
    entry = {**EVERYTHING, "crop_size": size, "mean": MEAN, "std": STD}
    augmentation = BatchAugmentation([ViewSettings.read(entry, MEAN, STD)])
    torch.manual_seed(0)
    coarse = torch.rand(256, 3, 9, 9)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images = (255 * images).to(torch.uint8)
    drawn = augmentation.draw([(size, size)] * 256, np.random.default_rng(0))
    levels = 255 * torch.tensor(STD).view(3, 1, 1)
    ours = [view.cpu() for view in augmentation(images.to(device), drawn)]
    theirs = augmentation(images, drawn)
    differences = [((a - b) * levels).abs() for a, b in zip(ours, theirs)]
    figure("mean difference, levels of 255", float(torch.stack(differences).mean()), 0.05)
    for statistic in ("mean", "std"):
        a, b = (float(getattr(torch.stack(x), statistic)()) for x in (ours, theirs))
        figure(f"difference of the {statistic}", abs(a - b), 1e-3)
