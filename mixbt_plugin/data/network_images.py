"""The images that a network takes: their size and statistics, and who says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from mixbt_plugin.checkpoints import ImageFormat
from mixbt_plugin.data.properties import properties
from mixbt_plugin.data.transforms import image_size
from mixbt_plugin.settings import ConfigError

EXPECTED = {
    "crop_size": "a positive number of pixels, or a list of two",
    "mean": "three numbers, one a channel",
    "std": "three positive numbers, one a channel",
}
KEYS = tuple(EXPECTED)
PRETRAINING = "pre-training (args.json)"


@dataclass(frozen=True)
class NetworkImages(ImageFormat):
    """The images that a network takes.

    Attributes:
        sources: who says the size, the mean and the standard deviation.
    """

    sources: tuple[str, str, str] = ("", "", "")

    def as_config(self) -> dict[str, Any]:
        """The same as keys of a config."""
        height, width = self.size
        size = height if height == width else [height, width]
        return {"crop_size": size, "mean": list(self.mean), "std": list(self.std)}

    @property
    def origin(self) -> str:
        """Who says what, in words."""
        said: dict[str, list[str]] = {}
        for key, source in zip(KEYS, self.sources):
            said.setdefault(source, []).append(key)
        if len(said) == 1:
            return self.sources[0]
        return "; ".join(f"{', '.join(keys)} of {source}" for source, keys in said.items())

    def labels(self) -> dict[str, Any]:
        """Columns of a table of results."""
        return {**self.as_config(), "images_as": self.origin}

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.size[0]} x {self.size[1]} px, mean {mean}, std {std}: {self.origin}"


class Said(NamedTuple):
    """What somebody says of the images.

    Attributes:
        source: the somebody, for messages and tables.
        values: ``crop_size``, ``mean`` and ``std``; null or missing where nothing is said.
    """

    source: str
    values: Mapping[str, Any]


def network_images(dataset: str, *said: Said) -> NetworkImages:
    """The images that a network takes: of each key the first value that is said.

    Args:
        dataset: whose own size and statistics are taken where nobody says them.
        said: who is asked, the first before the others.

    Raises:
        ValueError: names the key, the value and what would be right.
    """
    known = properties(dataset)
    own = {"crop_size": known.size, "mean": known.mean, "std": known.std}
    asked = (*said, Said(f"the data set's own ({dataset})", own))
    first = [next(one for one in asked if one.values.get(key) is not None) for key in KEYS]
    size, mean, std = (_checked(key, one.values[key], one.source) for key, one in zip(KEYS, first))
    sources: Any = tuple(one.source for one in first)
    return NetworkImages(image_size(size), mean, std, dataset, sources)


def as_in_pretraining(cfg: DictConfig) -> Said:
    """What the config beside a checkpoint says: of pre-training, or of a linear evaluation."""
    pipelines, evaluated = cfg.get("augmentations"), OmegaConf.select(cfg, "data.augmentations")
    known = properties(cfg.data.dataset)
    values: dict[str, Any] = {"mean": known.mean, "std": known.std}
    for more in (pipelines[0] if pipelines else {}, evaluated or {}):
        values |= {key: more[key] for key in KEYS if more.get(key) is not None}
    return Said(PRETRAINING, values)


def _checked(key: str, value: Any, source: str) -> Any:
    several = isinstance(value, (Sequence, ListConfig))
    values = list(value) if several else [value]
    lengths = (1, 2) if key == "crop_size" else (3,)
    if len(values) not in lengths or not all(_is_allowed(key, one) for one in values):
        found = values if several else value
        raise ConfigError(f"{source}.{key}={found!r}: expected {EXPECTED[key]}.")
    return values if key == "crop_size" else tuple(values)


def _is_allowed(key: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    if key == "mean":
        return True
    return value > 0 and (key == "std" or value == int(value))
