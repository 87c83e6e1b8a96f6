"""``mixbt-export``: the backbone of a checkpoint as a file of timm's or torchvision's, or ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import commands
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.schema import check_export
from mixbt_plugin.apps.weights import load_pretrained
from mixbt_plugin.checkpoints import export_backbone, exported_files
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError


def export(cfg: DictConfig) -> Path:
    """Exports a checkpoint's backbone.

    Args:
        cfg: ``format``, ``folder``, and what `load_pretrained` takes.

    Returns:
        The file with the weights.

    Raises:
        FileNotFoundError: the checkpoint is missing.
        ValueError: a key is missing or has a value that cannot be used, the library has no such
            network, or its features differ.
    """
    register()
    check_export(cfg)
    model, pretrain_cfg, _, images = load_pretrained(cfg)
    kwargs: Any = OmegaConf.to_container(pretrain_cfg.backbone.get("kwargs") or OmegaConf.create())
    say("input", images)
    checkpoint = Path(cfg.pretrained_checkpoint)
    folder = Path(cfg.folder or checkpoint.parent / cfg.format)
    earlier = exported_files(cfg.format, folder)
    if any(checkpoint.samefile(file) for file in earlier):
        raise ConfigError(
            f"folder={str(folder)!r}: the export would take the place of {checkpoint} itself; "
            "expected another folder."
        )
    name = pretrain_cfg.backbone.name
    file = export_backbone(model.backbone, name, kwargs, cfg.format, folder, images)
    if file in earlier:
        say("replaced", ", ".join(map(str, earlier)))
    return file


def task(cfg: DictConfig) -> None:
    """The command's task."""
    file = export(cfg)
    if cfg.format == "onnx":
        taken = "any number of normalised images, float32 (N, 3, H, W), and gives features (N, F)"
        say("takes", f"{taken}; mean and std are in its metadata")
    loader = "onnxruntime" if cfg.format == "onnx" else cfg.format
    say("exported", f"{file}: {loader} loads it, and its features are equal")


if __name__ == "__main__":
    commands.export()
