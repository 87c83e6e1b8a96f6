"""``mixbt-pretrain``: pre-trains a method of the plugin or of the host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from mixbt_plugin.apps import commands, loaders, training
from mixbt_plugin.apps.feature_picture import FeaturePicture
from mixbt_plugin.apps.fitting import fit
from mixbt_plugin.apps.image_sizes import fit_backbone_to_views
from mixbt_plugin.apps.printing import say, say_done
from mixbt_plugin.apps.results import Results
from mixbt_plugin.apps.resuming import checkpoint_to_resume
from mixbt_plugin.apps.schema import check_pretraining, complete_pretraining
from mixbt_plugin.apps.validation import LEFT_OUT, LeaveOneOutKNN
from mixbt_plugin.apps.weights import start_from
from mixbt_plugin.data import (
    NetworkImages,
    Said,
    as_tensor,
    batch_augmentation,
    dali_pretraining,
    network_images,
    pretrain_dataset,
    pretrain_transform,
    still_transform,
    validation_dataset,
)
from mixbt_plugin.data.sources import SOURCES
from mixbt_plugin.host import METHODS, parse_pretrain_cfg
from mixbt_plugin.registry import register
from mixbt_plugin.settings import pipeline_names


def pretrain(cfg: DictConfig, callbacks: Sequence[Callback] = ()) -> Path:
    """Pre-trains as a config in solo-learn's schema says.

    The backbone starts from the weights of ``pretrained_feature_extractor`` where that is given,
    in any layout of `checkpoints.layouts`, and is built for the size of the views where it is one
    that is built for a size.

    Args:
        cfg: composed, not yet parsed; changed in place.
        callbacks: further ones of Lightning's, called before an epoch's checkpoint is saved.

    Returns:
        The run's folder, with ``metrics.csv``, ``results.json`` (online accuracies of the last
        and the best epoch, where there are validation images) and, where ``checkpoint.enabled``,
        the checkpoint and ``args.json``; that of a run that had nothing left to do; or the
        working folder, into which ``fast_dev_run`` writes nothing.

    Raises:
        ValueError: a key is missing or has a value that cannot be used; before anything is
            trained.
    """
    training.prepare(cfg, check_pretraining)
    cfg = parse_pretrain_cfg(cfg)
    fit_backbone_to_views(cfg)
    from_dali, in_batches = cfg.data.format == "dali", cfg.data.get("augment") == "batch"
    names = pipeline_names(cfg)  # Now: the method takes their values.
    augmentation = batch_augmentation(cfg) if in_batches else None
    seed_everything(cfg.seed, workers=True)
    model = METHODS[cfg.method](cfg)
    resumed = checkpoint_to_resume(cfg, cfg.method)
    if resumed and (reason := resumed.nothing_to_do(cfg)):
        say("resume", f"nothing to do: {reason}")
        return resumed.path.parent
    given = cfg.get("pretrained_feature_extractor")
    if given is not None and resumed is None:
        start_from(model, given)
    model = training.set_up(model, cfg)

    transform = as_tensor if in_batches else pretrain_transform(cfg)
    images = None if from_dali else pretrain_dataset(cfg, transform, names)
    evaluated = network_images(cfg.data.dataset, Said("augmentations", cfg.augmentations[0]))
    validation = _validation(cfg, evaluated)
    metrics = {
        "linear classifier": "val_",
        f"kNN ({_knn(cfg)})": "val_knn_",
        f"kNN, leave-one-out ({_knn(cfg)})": LEFT_OUT,
    }
    results = Results(cfg, "online", metrics, evaluated)
    further = list(callbacks)
    if validation is None and cfg.knn_eval.enabled:
        still = still_transform(cfg.data.dataset, evaluated)
        further.append(LeaveOneOutKNN(cfg, validation_dataset(cfg, still), results))
    if cfg.diagnostics.picture:
        further.append(FeaturePicture(cfg, evaluated))
    trainer = training.build_trainer(cfg, results, resumed, further)
    if from_dali:
        train: Any = dali_pretraining(cfg, trainer.world_size)
    else:
        train = loaders.train_loader(images, cfg, trainer, resumed, augmentation)
    training.announce(cfg, model, training.open_folder(trainer, cfg, cfg.method, resumed))
    fit(trainer, model, train, validation, resumed)
    results.print()
    return Path(trainer.log_dir or ".")


def _knn(cfg: DictConfig) -> str:
    return f"k={cfg.knn_eval.k}, {cfg.knn_eval.distance_func}"


def _validation(cfg: DictConfig, images: NetworkImages) -> Any:
    labelled = cfg.data.dataset in SOURCES or (
        cfg.data.get("val_path") is not None and not cfg.data.no_labels
    )
    if not labelled:
        return None
    still = still_transform(cfg.data.dataset, images)
    return loaders.val_loader(validation_dataset(cfg, still), cfg)


def show(cfg: DictConfig) -> None:
    """What ``--cfg job`` prints: the config as `pretrain` prints it, wherever the images are."""
    register()
    complete_pretraining(cfg)
    training.print_config(cfg)


def task(cfg: DictConfig) -> None:
    """The command's task."""
    say_done(pretrain(cfg))


if __name__ == "__main__":
    commands.pretrain()
