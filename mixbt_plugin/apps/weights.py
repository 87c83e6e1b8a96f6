"""Weights of a backbone or of a whole method from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from mixbt_plugin.apps.checkpointer import load_config
from mixbt_plugin.apps.training import require_known
from mixbt_plugin.host import METHODS


def read_checkpoint(checkpoint: str | Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a checkpoint.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"{checkpoint}: no such checkpoint.")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{checkpoint}: not a checkpoint that can be read ({error}).") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ValueError(f"{checkpoint}: holds no 'state_dict'; not a checkpoint of pre-training.")
    return content


def load_backbone(backbone: nn.Module, checkpoint: str | Path) -> None:
    """Loads the backbone's weights of a pre-training checkpoint; all of them, and no others.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or one of another architecture.
    """
    prefix = "backbone."
    state = {
        key[len(prefix) :]: value
        for key, value in read_checkpoint(checkpoint)["state_dict"].items()
        if key.startswith(prefix)
    }
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint}: holds another backbone than backbone.name says. {error}"
        ) from error


def load_method(checkpoint: str | Path) -> tuple[Any, DictConfig]:
    """A pre-trained method and its config, from a checkpoint with ``args.json`` beside it.

    Returns:
        The module in evaluation mode, and the config.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the method is not known, or the weights are of another architecture.
    """
    cfg = load_config(checkpoint)
    require_known("method", cfg.method, METHODS)
    model: Any = METHODS[cfg.method](cfg)
    try:
        model.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: does not fit its args.json. {error}") from error
    return model.eval(), cfg
