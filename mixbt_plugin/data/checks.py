"""What is wrong with the ``data`` of a config, found before a host parses it."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from mixbt_plugin.data.properties import properties
from mixbt_plugin.data.sources import SOURCES
from mixbt_plugin.settings import ConfigError

FORMATS = {
    "h5": ("imagenet", "imagenet100"),
    "dali": ("imagenet", "imagenet100", "custom"),
}
"""The data sets that solo-learn reads in a format, where not all."""


def check_data(cfg: DictConfig) -> None:
    """Checks that the data set, its format and its paths fit together.

    Args:
        cfg: composed, not yet parsed; ``data.dataset`` is a known name.

    Raises:
        ValueError: names the key, the value and what would be right.
    """
    data = cfg.data
    name, form = data.dataset, data.get("format") or "image_folder"
    if name not in FORMATS.get(form, (name,)):
        raise ConfigError(
            f"data.format={form!r} with data.dataset={name!r}: it is for "
            f"{', '.join(FORMATS[form])}; expected 'image_folder'."
        )
    if data.get("augment") == "batch" and form == "dali":
        raise ConfigError("data.augment='batch' with data.format='dali': DALI has its own views.")
    if data.get("no_labels") and name not in ("custom", "stl10"):
        raise ConfigError(
            f"data.no_labels=True with data.dataset={name!r}: it is for 'custom', one folder of "
            "images, and for 'stl10', its unlabeled images."
        )
    if name in SOURCES:
        SOURCES[name].require_packages()
        return
    existing_path(cfg, "data.train_path")
    if data.get("val_path") is not None:
        existing_path(cfg, "data.val_path")


def existing_path(cfg: DictConfig, key: str) -> Path:
    """The path that a key gives.

    Raises:
        ValueError: the key is missing; or there is nothing at the path, or a folder without
            content, and torchvision does not download the data set; or a file for a folder.
    """
    given = cfg.data.get(key.removeprefix("data."))
    if given is None:
        raise ConfigError(f"{key} is missing from the config.")
    path = Path(given).expanduser()
    if cfg.data.get("format") == "h5":
        if not path.is_file():
            raise ConfigError(f"{key}={given!r}: no such file; data.format=h5 reads one H5 file.")
    elif path.is_file():
        raise ConfigError(f"{key}={given!r}: is a file; expected a folder.")
    elif not properties(cfg.data.dataset).downloaded:
        if not path.is_dir():
            raise ConfigError(f"{key}={given!r}: no such folder.")
        if next(path.iterdir(), None) is None:
            raise ConfigError(f"{key}={given!r}: the folder is empty.")
    return path
