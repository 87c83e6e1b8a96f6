"""The shipped pre-training configs, composed as the commands and solo-learn's script do."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import training
from mixbt_plugin.apps.command import config_root, shipped_configs
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.host import METHODS, parse_pretrain_cfg
from tests.apps import composing

CONFIGS = [
    str(path.relative_to(config_root()).with_suffix(""))
    for group in ("pretrain", "parity")
    for path in shipped_configs(group)
]
FIELDS = ("What", "Source", "Reported", "Run here")


@cache
def header(config: str) -> dict[str, str]:
    """What a config says of itself in its first lines."""
    lines = []
    for line in (config_root() / f"{config}.yaml").read_text().splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    fields = {"What": lines[0]}
    for line in lines[1:]:
        name, _, text = line.partition(": ")
        fields[name] = text
    return fields


@cache
def written(config: str) -> dict[str, Any]:
    """What a config's own file says, before anything is composed."""
    file = OmegaConf.load(config_root() / f"{config}.yaml")
    return cast(dict[str, Any], OmegaConf.to_container(file))


def composed(config: str, *overrides: str) -> DictConfig:
    """A shipped config, by its path without suffix."""
    return copy.deepcopy(_composed(config, *overrides))


_composed = cache(composing.composed)


def parsed(config: str, folder: Path, *overrides: str) -> DictConfig:
    """A shipped config as the methods get it, with all images below ``folder``."""
    cfg = composed(config, *overrides)
    for key in ("train_path", "val_path"):
        if cfg.data.get(key) is not None:
            cfg.data[key] = str(folder)
    training.prepare(cfg, check_pretraining)
    return parse_pretrain_cfg(cfg)


def built(cfg: DictConfig) -> Any:
    """The method, without memory for its parameters."""
    with torch.device("meta"):
        return METHODS[cfg.method](cfg)


def plain(node: Any) -> Any:
    """A config's node as plain data."""
    return OmegaConf.to_container(node, resolve=True)


def slug(text: str) -> str:
    """A config's name for a test's id."""
    return re.sub(r"^(pretrain|parity)/", "", text)
