"""Checkpoints of methods as they are before training, which take no time to make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import register
from tests.configs import method_config

register()


def checkpoint_of(
    folder: Path, backbone: dict[str, Any], dataset: str = "custom", epoch: int = 4, **changes: Any
) -> Path:
    """Saved as pre-training of 5 epochs does, after an epoch counted from 0."""
    torch.manual_seed(1)
    cfg = method_config("mixbt", backbone=backbone, data__dataset=dataset, **changes)
    folder.mkdir(exist_ok=True)
    path = folder / f"untrained-ep{epoch}.ckpt"
    torch.save({"state_dict": METHODS["mixbt"](cfg).state_dict(), "epoch": epoch}, path)
    (folder / "args.json").write_text(json.dumps(OmegaConf.to_container(cfg)))
    return path
