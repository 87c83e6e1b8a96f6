"""What is wrong with the ``data`` of a config, found before a host parses it."""

from __future__ import annotations

import warnings
from pathlib import Path

from omegaconf import DictConfig

from mixbt_plugin.data.names import is_hidden
from mixbt_plugin.data.properties import properties
from mixbt_plugin.data.sources import INSIDE, SOURCES
from mixbt_plugin.settings import ConfigError

FOLDERS = ("imagenet", "imagenet100", "custom")
"""The data sets that are class folders; they are read from H5 files and by DALI too."""
SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def check_data(cfg: DictConfig) -> None:
    """Checks that the data set, its format and its paths fit together.

    Args:
        cfg: composed, not yet parsed; ``data.dataset`` is a known name.

    Raises:
        ValueError: names the key, the value and what would be right.
    """
    data = cfg.data
    name, form = data.dataset, data.get("format") or "image_folder"
    if form != "image_folder" and name not in FOLDERS:
        raise ConfigError(
            f"data.format={form!r} with data.dataset={name!r}: it is for {', '.join(FOLDERS)}; "
            "expected 'image_folder'."
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
        _warn_of_paths_to_a_package(data)
        return
    paths = {"data.train_path": existing_path(cfg, "data.train_path")}
    if data.get("val_path") is not None:
        paths["data.val_path"] = existing_path(cfg, "data.val_path")
    if name not in FOLDERS:
        return
    if form != "h5" and not data.get("no_labels"):
        for key, path in paths.items():
            _refuse_a_folder_of_splits(key, path)
    if len({path.resolve() for path in paths.values()}) < len(paths):
        warnings.warn(
            f"data.val_path={data.val_path!r} is data.train_path too: what is reported of the "
            "validation images is of those that are trained on.",
            stacklevel=2,
        )


def _warn_of_paths_to_a_package(data: DictConfig) -> None:
    for key in ("train_path", "val_path"):
        if data.get(key) not in (None, INSIDE):
            packages = " and ".join(SOURCES[data.dataset].packages.values())
            warnings.warn(
                f"data.{key}={data[key]!r} is not read: data.dataset={data.dataset!r} is of images "
                f"that {packages} ships. Expected null; or data.dataset=custom for the folder.",
                stacklevel=3,
            )


def _refuse_a_folder_of_splits(key: str, path: Path) -> None:
    folders = {entry.name for entry in path.iterdir() if entry.is_dir()}
    names = sorted(name for name in folders if not is_hidden(name))
    if names and {name.lower() for name in names} <= SPLITS:
        raise ConfigError(
            f"{key}={str(path)!r}: its folders would be the classes, and they are "
            f"{', '.join(names)}; expected one of those, such as {str(path / names[0])!r}."
        )


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
