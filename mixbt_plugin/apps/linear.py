"""``mixbt-linear``: trains a linear classifier on a frozen backbone, or fine-tunes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import loading, training
from mixbt_plugin.apps.command import run_command
from mixbt_plugin.apps.resuming import checkpoint_to_resume, first_epoch
from mixbt_plugin.apps.schema import check_linear
from mixbt_plugin.apps.weights import load_backbone
from mixbt_plugin.data import (
    default_image_size,
    evaluation_datasets,
    evaluation_transforms,
    take_fraction,
)
from mixbt_plugin.host import LinearModel, build_backbone, parse_linear_cfg


def linear(cfg: DictConfig) -> Path:
    """Evaluates a checkpoint as a config in solo-learn's schema says.

    Images are brought to ``data.augmentations.crop_size``; where it is not given, to the data
    set's own size. ``data.fraction`` takes a stratified share of the training images.

    Args:
        cfg: composed, not yet parsed; changed in place.

    Returns:
        The run's folder.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a key is missing or has a value that cannot be used.
    """
    training.prepare(cfg, check_linear)
    given: Any = OmegaConf.select(cfg, "data.augmentations", default={})
    cfg = parse_linear_cfg(cfg)
    if cfg.auto_augment:
        raise ValueError(
            "auto_augment: solo-learn's own main_linear.py does it; leave it out here."
        )
    seed_everything(cfg.seed, workers=True)

    backbone, _ = build_backbone(cfg, cfg.pretrain_method)
    load_backbone(backbone, cfg.pretrained_feature_extractor)
    loss_func, mixup_func = _loss_and_mixup(cfg)
    model: Any = LinearModel(backbone, cfg=cfg, loss_func=loss_func, mixup_func=mixup_func)
    if not cfg.performance.disable_channel_last:
        model = model.to(memory_format=torch.channels_last)

    transforms = evaluation_transforms(
        cfg.data.dataset,
        given.get("crop_size") or default_image_size(cfg.data.dataset),
        given.get("mean"),
        given.get("std"),
    )
    train, val = evaluation_datasets(cfg, *transforms)
    resumed = checkpoint_to_resume(cfg, "linear")
    trainer = training.build_trainer(cfg, "linear")
    training.announce(cfg, model, trainer.log_dir)
    train = take_fraction(train, cfg.data.fraction)
    trainer.fit(
        model,
        loading.train_loader(train, cfg, trainer, first_epoch(resumed)),
        loading.val_loader(val, cfg),
        ckpt_path=resumed,
    )
    metrics = trainer.callback_metrics
    print(
        f"{'fine-tuned' if cfg.finetune else 'linear'}, offline, last epoch, validation split: "
        f"acc@1 {metrics['val_acc1']:.2f} acc@5 {metrics['val_acc5']:.2f}"
    )
    return Path(trainer.log_dir or ".")


def _loss_and_mixup(cfg: DictConfig) -> tuple[Any, Any]:
    if cfg.mixup > 0 or cfg.cutmix > 0:
        from timm.data.mixup import Mixup
        from timm.loss.cross_entropy import SoftTargetCrossEntropy

        mixup = Mixup(
            mixup_alpha=cfg.mixup,
            cutmix_alpha=cfg.cutmix,
            prob=1.0,
            switch_prob=0.5,
            mode="batch",
            label_smoothing=cfg.label_smoothing,
            num_classes=cfg.data.num_classes,
        )
        return SoftTargetCrossEntropy(), mixup
    return torch.nn.CrossEntropyLoss(label_smoothing=cfg.label_smoothing), None


def task(cfg: DictConfig) -> None:
    """The command's task."""
    folder = linear(cfg)
    print(f"done      {folder}")


def main() -> None:
    """The command."""
    run_command(task, "linear")


if __name__ == "__main__":
    main()
