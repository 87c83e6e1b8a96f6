"""Weights of a backbone or of a whole method from a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.image_sizes import require_image_size
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.training import require_backbone, require_known
from mixbt_plugin.checkpoints import (
    Stem,
    find_backbone,
    load_into,
    read_checkpoint,
    read_file,
    stem_of,
)
from mixbt_plugin.data import (
    PROPERTIES,
    NetworkImages,
    Said,
    as_in_pretraining,
    network_images,
)
from mixbt_plugin.host import METHODS, build_backbone
from mixbt_plugin.settings import ConfigError


def load_backbone(backbone: nn.Module, checkpoint: str | Path) -> None:
    """Loads the backbone's weights of a checkpoint in any layout of `checkpoints.layouts`.

    Prints how many tensors were taken and left, and warns where the weights were trained with
    another stem, which changes the features but no shape.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or one of another architecture.
    """
    weights = find_backbone(read_file(checkpoint), checkpoint)
    load_into(backbone, weights, checkpoint)
    say("weights", f"{checkpoint}, {weights}")
    theirs, ours = weights.stem or _stem_beside(checkpoint), stem_of(backbone)
    if theirs and ours and theirs != ours:
        warnings.warn(
            f"{checkpoint}: these weights were trained with another stem ({theirs}) than this "
            f"backbone's ({ours}). They fit, but their features are others. backbone.name="
            "stem_resnet18 and stem_resnet50 take the stem in backbone.kwargs.",
            stacklevel=2,
        )


def start_from(model: Any, checkpoint: str | Path) -> None:
    """Gives a method's backbone the weights of a checkpoint, and its momentum backbone the same.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or one of another architecture.
    """
    load_backbone(model.backbone, checkpoint)
    if hasattr(model, "momentum_backbone"):  # of some of solo-learn's methods
        model.momentum_backbone.load_state_dict(model.backbone.state_dict())


def _stem_beside(checkpoint: str | Path) -> Stem | None:
    """The stem of the network that ``args.json`` beside a checkpoint describes, if it is there."""
    if not (Path(checkpoint).parent / CONFIG_FILE).is_file():
        return None
    cfg = load_config(checkpoint)
    with torch.device("meta"):
        backbone, _ = build_backbone(cfg, cfg.get("method"))
    return stem_of(backbone)


class Pretrained(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        model: a method or `BackboneAlone`, in evaluation mode.
        cfg: tells how to feed it.
        epochs: how many it was trained for; None where the file does not say.
        images: those that it takes.
    """

    model: Any
    cfg: DictConfig
    epochs: int | None
    images: NetworkImages


def load_method(
    checkpoint: str | Path, *, backbone_kwargs: Mapping[str, Any] | None = None
) -> Pretrained:
    """A pre-trained method and its config, from a checkpoint with ``args.json`` beside it.

    Args:
        checkpoint: its path.
        backbone_kwargs: replace keys of pre-training's, such as ``dynamic_img_size``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the method is not known, or the weights are of another architecture.
    """
    cfg = load_config(checkpoint)
    if "method" not in cfg:
        raise ConfigError(
            f"{checkpoint}: {CONFIG_FILE} beside it is of a linear evaluation, not of a "
            "pre-training; expected the checkpoint that was evaluated, or backbone.name and "
            "data.dataset, for its backbone alone."
        )
    if cfg.method not in METHODS:
        raise ConfigError(
            f"{checkpoint}: was pre-trained by {cfg.method!r}, which is not known here; expected "
            "solo-learn beside, or backbone.name and data.dataset, for its backbone alone."
        )
    cfg.backbone.kwargs = OmegaConf.merge(cfg.backbone.get("kwargs") or {}, backbone_kwargs or {})
    require_backbone(cfg)
    model: Any = METHODS[cfg.method](cfg)
    content = read_checkpoint(checkpoint)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ConfigError(f"{checkpoint}: does not fit its args.json. {error}") from error
    epochs = content["epoch"] + 1 if "epoch" in content else None
    images = network_images(cfg.data.dataset, as_in_pretraining(cfg))
    return Pretrained(model.eval(), cfg, epochs, images)


class BackboneAlone(nn.Module):
    """A backbone that answers as a method does.

    Args:
        backbone: maps images (N, 3, H, W) to features (N, F).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``feats`` (N, F)."""
        return {"feats": self.backbone(images)}


def load_pretrained(cfg: DictConfig) -> Pretrained:
    """What ``pretrained_checkpoint`` holds, with the config that tells how to feed it.

    Where ``backbone.name`` is null that is the method and the config of ``args.json`` beside the
    checkpoint. Where it is given, as it must be for files of other codes, it is that backbone
    alone, and ``data.dataset`` must be given too.

    Args:
        cfg: ``pretrained_checkpoint``, ``backbone``, ``pretrain_method`` and ``data``. The keys of
            ``data`` that are not null replace those of pre-training; ``data.augmentations``
            (crop_size, mean, std) replaces the size and the statistics of its images.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is missing, or the weights do not fit.
    """
    checkpoint = cfg.get("pretrained_checkpoint")
    if checkpoint is None:
        raise ConfigError("pretrained_checkpoint is missing: the path of a checkpoint.")
    data = _without_nulls(cfg.data)
    asked = Said("data.augmentations", data.pop("augmentations", {}))
    if "dataset" in data:
        require_known("data.dataset", data["dataset"], PROPERTIES)
    described = (Path(checkpoint).parent / CONFIG_FILE).is_file()
    if OmegaConf.select(cfg, "backbone.name") is None:
        if Path(checkpoint).is_file() and not described:
            raise ConfigError(
                f"backbone.name is missing: {checkpoint} has no {CONFIG_FILE} beside it, so "
                "backbone.name and data.dataset must say what it is and which images to take."
            )
        kwargs = OmegaConf.select(cfg, "backbone.kwargs") or {}
        pretrained = load_method(checkpoint, backbone_kwargs=kwargs)
        pretrain_cfg = pretrained.cfg
        said = as_in_pretraining(pretrain_cfg)
        pretrain_cfg.data = OmegaConf.merge(pretrain_cfg.data, data)
        if {"dataset", "train_path"} & data.keys():
            pretrain_cfg.data.no_labels = False  # that was of the images of pre-training
        images = network_images(pretrain_cfg.data.dataset, asked, said)
        require_image_size(pretrain_cfg, pretrain_cfg.method, images.size)
        return pretrained._replace(images=images)
    if "dataset" not in data:
        raise ConfigError("data.dataset is missing: backbone.name is given, so it must be too.")
    pretrain_cfg = OmegaConf.create(
        {"method": cfg.get("pretrain_method"), "backbone": cfg.backbone, "data": data}
    )
    beside = [as_in_pretraining(load_config(checkpoint))] if described else []
    images = network_images(data["dataset"], asked, *beside)
    require_image_size(pretrain_cfg, pretrain_cfg.method, images.size)
    backbone, _ = build_backbone(pretrain_cfg, pretrain_cfg.method)
    load_backbone(backbone, checkpoint)
    return Pretrained(BackboneAlone(backbone).eval(), pretrain_cfg, None, images)


def _without_nulls(cfg: Any) -> dict[Any, Any]:
    return {key: value for key, value in cfg.items() if value is not None}
