"""What an entry of a config's ``augmentations`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROBABILITIES = ("grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")


@dataclass(frozen=True)
class ViewSettings:
    """One entry of ``augmentations``.

    Attributes:
        crop_size: height and width of the views; where `scale` is None it may be one number, the
            shorter side's.
        num_crops: number of views of an image.
        scale: least and largest share of the image's area that a crop takes; None takes all of it.
        color_jitter: probability that the colours are jittered.
        brightness: the factor is uniform in ``[max(0, 1 - brightness), 1 + brightness]``.
        contrast: likewise.
        saturation: likewise.
        hue: the shift is uniform in ``[-hue, hue]`` of a full circle.
        grayscale: probability.
        gaussian_blur: probability.
        solarization: probability.
        equalization: probability.
        horizontal_flip: probability.
        mean: of the channels, in [0, 1].
        std: of the channels.
    """

    crop_size: tuple[int, ...]
    num_crops: int
    scale: tuple[float, float] | None
    color_jitter: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    grayscale: float
    gaussian_blur: float
    solarization: float
    equalization: float
    horizontal_flip: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(
        cls, augmentation: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]
    ) -> ViewSettings:
        """Reads an entry in solo-learn's schema, whose values have been checked.

        Args:
            augmentation: the entry.
            mean: of the channels.
            std: of the channels.
        """
        rrc, jitter = augmentation["rrc"], augmentation["color_jitter"]
        size = augmentation["crop_size"]
        sides = (size,) if isinstance(size, int) else tuple(size)
        # Of one number torchvision's crop makes a square, its resizing the shorter side.
        square = rrc["enabled"] and len(sides) == 1
        amounts = ("brightness", "contrast", "saturation", "hue")
        return cls(
            crop_size=2 * sides if square else sides,
            num_crops=augmentation["num_crops"],
            scale=(rrc["crop_min_scale"], rrc["crop_max_scale"]) if rrc["enabled"] else None,
            color_jitter=jitter["prob"],
            **{key: jitter[key] if jitter["prob"] else 0.0 for key in amounts},
            **{key: augmentation[key]["prob"] for key in PROBABILITIES},
            mean=tuple(mean),
            std=tuple(std),
        )

    def view_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the views of an image of ``height`` x ``width``."""
        if len(self.crop_size) == 2:
            return self.crop_size[0], self.crop_size[1]
        (short,) = self.crop_size
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short
