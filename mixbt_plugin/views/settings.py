"""What a pipeline of a config's ``augmentations`` asks for, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

PROBABILITIES = ("grayscale", "gaussian_blur", "solarization", "equalization", "horizontal_flip")
KEYS = (
    *("crop_size", "num_crops", "mean", "std"),
    *("rrc.enabled", "rrc.crop_min_scale", "rrc.crop_max_scale"),
    *(f"color_jitter.{key}" for key in ("prob", "brightness", "contrast", "saturation", "hue")),
    *(f"{name}.prob" for name in PROBABILITIES),
)
"""What solo-learn's ``build_transform_pipeline`` and script read of an entry."""


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
        cls, augmentation: Mapping[str, Any], mean: Sequence[float], std: Sequence[float], name: str
    ) -> ViewSettings:
        """Reads an entry in solo-learn's schema.

        Args:
            augmentation: the entry, as plain mappings, lists and numbers.
            mean: of the channels; an entry's own is the caller's to prefer.
            std: likewise.
            name: the entry's in messages, such as ``augmentations[0]``.

        Raises:
            ValueError: a key is missing, unknown, or has a value that cannot be used.
        """
        values = _dotted(augmentation)
        for key in values:
            if key not in KEYS:
                raise ValueError(f"{name}.{key} is not known: expected {', '.join(KEYS)}.")

        def value(key: str) -> Any:
            if values.get(key) is None:
                raise ValueError(f"{name}.{key} is missing from the config.")
            return values[key]

        def number(key: str, highest: float = 1.0) -> float:
            found = value(key)
            if type(found) not in (int, float) or not 0 <= found <= highest:
                to = f"from 0 to {highest:g}" if isfinite(highest) else "of at least 0"
                raise ValueError(f"{name}.{key}={found!r}: expected a number {to}.")
            return float(found)

        scale = None
        if value("rrc.enabled"):
            scale = number("rrc.crop_min_scale"), number("rrc.crop_max_scale")
            if scale[0] > scale[1]:
                raise ValueError(
                    f"{name}.rrc.crop_min_scale={scale[0]}: exceeds crop_max_scale={scale[1]}."
                )
        jitter = number("color_jitter.prob")
        amounts = {
            key: number(f"color_jitter.{key}", 0.5 if key == "hue" else inf) if jitter else 0.0
            for key in ("brightness", "contrast", "saturation", "hue")
        }
        num_crops = value("num_crops")
        if not isinstance(num_crops, int) or num_crops < 1:
            raise ValueError(f"{name}.num_crops={num_crops!r}: expected a positive whole number.")
        return cls(
            crop_size=_crop_size(value("crop_size"), scale is not None, name),
            num_crops=num_crops,
            scale=scale,
            color_jitter=jitter,
            **amounts,
            **{key: number(f"{key}.prob") for key in PROBABILITIES},
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


def _dotted(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            values.update(_dotted(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values


def _crop_size(found: Any, square: bool, name: str) -> tuple[int, ...]:
    sizes = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    whole = all(isinstance(size, int) and size > 0 for size in sizes)
    if not whole or len(sizes) not in (1, 2):
        raise ValueError(
            f"{name}.crop_size={found!r}: expected a positive whole number, or height and width."
        )
    return tuple(sizes * 2) if square and len(sizes) == 1 else tuple(sizes)
