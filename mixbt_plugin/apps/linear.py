"""``mixbt-linear``: trains a linear classifier on a frozen backbone, or fine-tunes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps import commands, loaders, training
from mixbt_plugin.apps.checkpointer import CONFIG_FILE, load_config
from mixbt_plugin.apps.features import averaged_features
from mixbt_plugin.apps.fitting import fit
from mixbt_plugin.apps.image_sizes import require_image_size
from mixbt_plugin.apps.printing import say, say_done
from mixbt_plugin.apps.results import Results
from mixbt_plugin.apps.resuming import checkpoint_to_resume
from mixbt_plugin.apps.schema import check_keys, check_linear
from mixbt_plugin.apps.weights import load_backbone
from mixbt_plugin.data import (
    complete_images,
    dali_evaluation,
    evaluation_datasets,
    linear_transforms,
    passes_transform,
    require_a_batch,
    take_part,
    validation_dataset,
)
from mixbt_plugin.host import build_backbone, parse_linear_cfg
from mixbt_plugin.keys import LinearConfig
from mixbt_plugin.methods import LinearEvaluation
from mixbt_plugin.settings import ConfigError, MissingFileError


def linear(cfg: DictConfig) -> Path:
    """Evaluates a checkpoint as a config in solo-learn's schema says.

    ``backbone`` is that of pre-training where ``backbone.name`` is not given and ``args.json``
    lies beside the checkpoint. Images have the size and the statistics of pre-training unless the
    config says others (`mixbt_plugin.data.complete_images`). Training images are cropped and
    mirrored at random as in solo-learn, unless ``augmentations`` says otherwise
    (`mixbt_plugin.data.linear_transforms`). ``data.fraction`` takes a stratified share of them,
    ``data.train_subset`` the files of a list (`mixbt_plugin.data.take_part`). Further keys:
    `mixbt_plugin.methods.LinearEvaluation`.

    Args:
        cfg: composed, not yet parsed; changed in place.

    Returns:
        The run's folder, with ``metrics.csv``, ``results.json`` (offline accuracies of the last
        and the best epoch) and, where ``checkpoint.enabled``, the checkpoint and ``args.json``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a key is missing or has a value that cannot be used.
    """
    pretraining = _complete_from_pretraining(cfg)
    training.prepare(cfg, check_linear)
    # Before the parsers: solo-learn's fills in 224 pixels and ImageNet's statistics.
    images = complete_images(cfg, pretraining)
    cfg = parse_linear_cfg(cfg)
    _check(cfg)
    if OmegaConf.select(cfg, "optimizer.classifier_lr") is not None:
        # As the parser scales optimizer.lr.
        images_a_step = cfg.optimizer.batch_size * len(cfg.devices) * cfg.num_nodes
        cfg.optimizer.classifier_lr *= images_a_step / 256
    seed_everything(cfg.seed, workers=True)

    # The host varies a ResNet's stem by the data set, which need not be the one evaluated on.
    dataset = (pretraining or cfg).data.dataset
    of_pretraining: Any = OmegaConf.merge(cfg, {"data": {"dataset": dataset}})
    require_image_size(of_pretraining, cfg.pretrain_method, images.size)
    backbone, _ = build_backbone(of_pretraining, cfg.pretrain_method)
    load_backbone(backbone, cfg.pretrained_feature_extractor)
    loss_func, mixup_func = _loss_and_mixup(cfg)
    model = training.set_up(LinearEvaluation(backbone, cfg, loss_func, mixup_func), cfg)
    resumed = checkpoint_to_resume(cfg, "linear")
    if resumed and (reason := resumed.nothing_to_do(cfg)):
        say("resume", f"nothing to do: {reason}")
        return resumed.path.parent

    train: Any
    val: Any
    train_transform, val_transform = linear_transforms(cfg)
    from_dali, passes = cfg.data.format == "dali", cfg.feature_passes
    if passes > 1:
        train_transform = val_transform = passes_transform(cfg)
    if from_dali:
        val = validation_dataset(cfg, val_transform)
    else:
        train, val = evaluation_datasets(cfg, train_transform, val_transform)
    results = Results(cfg, "offline", {_name(cfg): "val_"}, images)
    trainer = training.build_trainer(cfg, results, resumed)
    say("input", images)
    if from_dali:
        loader = dali_evaluation(cfg, trainer.world_size)
    else:
        train = take_part(train, cfg)
        require_a_batch(cfg, len(train), trainer.world_size)
        say("images", f"{len(train)} for training, {len(val)} for testing")
        if passes > 1:
            say("features", f"once, the mean of {passes} passes: 1 clean, {passes - 1} augmented")
            train = averaged_features(model, train, cfg, trainer)
            val = averaged_features(model, val, cfg, trainer)
        loader = loaders.train_loader(train, cfg, trainer, resumed)
    training.announce(cfg, model, training.open_folder(trainer, cfg, "linear", resumed))
    fit(trainer, model, loader, loaders.val_loader(val, cfg), resumed)
    results.print()
    if not results.rows():
        say("results", "none: the training ended before an epoch that is validated")
    return Path(trainer.log_dir or ".")


def _complete_from_pretraining(cfg: DictConfig) -> DictConfig | None:
    """Fills in the backbone by ``args.json``, and returns that where it is there."""
    check_keys(cfg, LinearConfig)
    given = OmegaConf.select(cfg, "pretrained_feature_extractor")
    if given is None:
        raise ConfigError("pretrained_feature_extractor is missing: the path of a checkpoint.")
    checkpoint = Path(given)
    if not checkpoint.is_file():
        raise MissingFileError(f"{checkpoint}: no such checkpoint.")
    described = (checkpoint.parent / CONFIG_FILE).is_file()
    theirs = load_config(checkpoint) if described else OmegaConf.create({})
    if OmegaConf.select(cfg, "backbone.name") is None:
        if not described:
            raise ConfigError(
                f"backbone.name is missing: no {CONFIG_FILE} beside {checkpoint} tells it."
            )
        kwargs = OmegaConf.select(cfg, "backbone.kwargs") or {}
        cfg.backbone = OmegaConf.merge(theirs.get("backbone", {}), {"kwargs": kwargs})
    if OmegaConf.select(cfg, "pretrain_method") is None:
        cfg.pretrain_method = theirs.get("method")
    return theirs if described else None


def _name(cfg: DictConfig) -> str:
    if cfg.feature_passes > 1:
        return f"linear, mean of {cfg.feature_passes} passes"
    return "fine-tuned" if cfg.finetune else "linear"


def _check(cfg: DictConfig) -> None:
    if cfg.auto_augment:
        raise ConfigError(
            "auto_augment: solo-learn's own main_linear.py does it; leave it out here."
        )
    if (cfg.mixup or cfg.cutmix) and cfg.optimizer.batch_size % 2:
        raise ConfigError(
            f"optimizer.batch_size={cfg.optimizer.batch_size}: mixup and cutmix mix the batch "
            "with itself in reverse and need an even number."
        )
    if cfg.get("feature_passes", 1) > 1:
        _check_passes(cfg)


def _check_passes(cfg: DictConfig) -> None:
    """What does not go with features that are computed once, of views, by one process."""
    pipelines = cfg.get("augmentations")
    for wrong, found, right in (
        (
            pipelines is not None and not pipelines,
            "augmentations=[]",
            "a pipeline, of which all views but the first are",
        ),
        (cfg.data.format == "dali", "data.format='dali'", "image_folder or h5"),
        (cfg.mixup > 0, f"mixup={cfg.mixup:g}", "0: there are no images to mix in training"),
        (cfg.cutmix > 0, f"cutmix={cfg.cutmix:g}", "0: there are no images to mix in training"),
        (
            len(cfg.devices) * cfg.num_nodes > 1,
            f"devices={list(cfg.devices)}, num_nodes={cfg.num_nodes}",
            "one device, whose process keeps the features",
        ),
    ):
        if wrong:
            raise ConfigError(
                f"feature_passes={cfg.feature_passes} with {found}: expected {right}; or "
                "feature_passes=1."
            )


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


def show(cfg: DictConfig) -> None:
    """What ``--cfg job`` prints: the config with its defaults, whatever the checkpoint is."""
    OmegaConf.set_struct(cfg, False)
    given = cfg.get("pretrained_feature_extractor")
    cfg.pretrained_feature_extractor = given or "a checkpoint"  # it need not be said to be shown
    check_keys(cfg, LinearConfig)
    cfg.pretrained_feature_extractor = given
    training.print_config(cfg)


def task(cfg: DictConfig) -> None:
    """The command's task."""
    say_done(linear(cfg))


if __name__ == "__main__":
    commands.linear()
