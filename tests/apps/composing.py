"""Shipped configs, composed without starting a command."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mixbt_plugin.apps.command import config_root


def composed(path: str | Path, *overrides: str) -> DictConfig:
    """The config at a path below the shipped ones."""
    file = config_root() / path
    with initialize_config_dir(str(file.parent), version_base="1.2"):
        return compose(file.stem, overrides=list(overrides))
