"""What images a backbone takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ImageFormat:
    """What images a backbone takes.

    Attributes:
        size: height and width.
        mean: of the channels, by which images are normalised.
        std: likewise.
        dataset: whose validation images are brought to this size as these are.
    """

    size: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]
    dataset: str = "custom"
