"""``mixbt-diagnose``: what a checkpoint's features and embeddings are like, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from mixbt_plugin.apps import commands, training
from mixbt_plugin.apps.knn import Row, add_to_table, labels_of
from mixbt_plugin.apps.loaders import views_loader
from mixbt_plugin.apps.measuring import Measures, evenly, has_validation_images, images_to_measure
from mixbt_plugin.apps.pictures import draw_spectra
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.schema import check_diagnose
from mixbt_plugin.apps.weights import Pretrained, load_pretrained
from mixbt_plugin.data import pretrain_transform, still_transform, unlabelled_files
from mixbt_plugin.data.reading import ReadableImages
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError

TABLE = "diagnostics.csv"
OF_SEVERAL_VIEWS = ("alignment", "lidar")


def diagnose(cfg: DictConfig) -> list[Row]:
    """Measures a checkpoint on images that stay the same, as ``diagnostics.enabled`` does online.

    The images are those of ``images``, or the validation images, or the training images where
    there are no others; in the views of pre-training with its seed, so that the numbers are those
    that the run logged with as many images. Of a backbone alone (``backbone.name``) they are not
    augmented, one view each, and what compares views is left out.

    Args:
        cfg: ``pretrained_checkpoint``, ``images``, ``count``, ``picture``, ``batch_size``,
            ``num_workers``, ``accelerator``, and what `load_pretrained` takes.

    Returns:
        A row for features and, where there is a projector, one for embeddings: what was measured,
        on which images and how many, and the measures of `Diagnostics`.

    Raises:
        FileNotFoundError: the checkpoint or ``args.json`` beside it is missing.
        ValueError: a key is missing or has a value that cannot be used.
    """
    register()
    check_diagnose(cfg)
    device = training.device_of(cfg)
    pretrained = load_pretrained(cfg)
    say("input", pretrained.images)
    images, which = _images(cfg, pretrained)
    if len(images) < 2:
        raise ConfigError(
            f"images={cfg.images}: a covariance takes at least two images, and there is one."
        )
    some = evenly(images, min(cfg.count, len(images)))
    loader = views_loader(some, _how_to_load(cfg, pretrained.cfg), cfg.batch_size)
    model, measures = pretrained.model.to(device), Measures(device)
    with torch.no_grad():
        for views, _ in tqdm(loader, desc="features", leave=False, disable=None):
            measures.update([model(view.to(device)) for view in views])
    checkpoint = Path(cfg.pretrained_checkpoint)
    labels = {**labels_of(pretrained, checkpoint), **which, "views": len(views)}
    found = {kind: _as_numbers(measured) for kind, measured in measures.compute().items()}
    rows = [{**labels, "of": kind, **measured} for kind, measured in found.items()]
    numbers = [name for name in next(iter(found.values())) if name != "images"]
    _print(rows)  # before anything is written: a full disk loses no number
    add_to_table(checkpoint.parent / TABLE, rows, numbers)
    if cfg.picture:
        file = checkpoint.parent / f"diagnostics-{checkpoint.stem}.png"
        draw_spectra(measures.first_views(), f"{checkpoint.name}, {_images_in_words(rows)}", file)
        say("picture", file)
    return rows


def _images(cfg: DictConfig, pretrained: Pretrained) -> tuple[Any, Row]:
    """The images as (views, class), and what the table calls them."""
    transform = _transform(cfg, pretrained)
    if cfg.images is not None:
        root = Path(cfg.images).expanduser()
        files: Any = unlabelled_files(root, "images")
        files.transform = transform
        images = ReadableImages(files, skip=pretrained.cfg.data.get("unreadable") == "skip")
        return images, {"dataset": str(root), "split": "all", "train_path": None, "val_path": None}
    held_out = has_validation_images(pretrained.cfg)
    return images_to_measure(pretrained.cfg, transform), {} if held_out else {"split": "training"}


def _transform(cfg: DictConfig, pretrained: Pretrained) -> Any:
    """The views of pre-training, or the image as it is evaluated where those are not known."""
    if cfg.backbone.name is None:
        return pretrain_transform(_with_statistics(pretrained))
    still = still_transform(pretrained.cfg.data.dataset, pretrained.images)
    return FullTransformPipeline([NCropAugmentation(still, 1)])


def _with_statistics(pretrained: Pretrained) -> DictConfig:
    """The config, its pipelines with the network's own mean and std where they name none.

    Without them they would take those of the data set that is measured on.
    """
    cfg = pretrained.cfg.copy()
    for pipeline in cfg.augmentations:
        for key in ("mean", "std"):
            if pipeline.get(key) is None:
                pipeline[key] = list(getattr(pretrained.images, key))
    return cfg


def _how_to_load(cfg: DictConfig, pretrained: DictConfig) -> DictConfig:
    """What `views_loader` reads; of other codes' files the seed changes nothing."""
    return OmegaConf.create(
        {
            "seed": pretrained.get("seed", 5),
            "data": {"num_workers": cfg.num_workers},
            "optimizer": {"batch_size": cfg.batch_size},
        }
    )


def _as_numbers(measured: dict[str, Tensor]) -> Row:
    """With as many digits as float32 features have; None for what takes several views."""
    numbers = {name: float(f"{float(value):.6g}") for name, value in measured.items()}
    return numbers | {name: None for name in OF_SEVERAL_VIEWS if name not in measured}


def _images_in_words(rows: list[Row]) -> str:
    row = rows[0]
    views = f"{row['views']} views of each" if row["views"] > 1 else "not augmented"
    return f"{row['images']:.0f} images of {row['dataset']} ({row['split']}), {views}"


def task(cfg: DictConfig) -> None:
    """The command's task."""
    diagnose(cfg)
    print(f"written to {Path(cfg.pretrained_checkpoint).parent / TABLE}")


def _print(rows: list[Row]) -> None:
    print(_images_in_words(rows))
    print(f"{'':16}" + "".join(f"{row['of']:>14}" for row in rows))
    for name in list(rows[0])[list(rows[0]).index("of") + 1 :]:
        print(f"{name:16}" + "".join(f"{_shown(row[name]):>14}" for row in rows))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    commands.diagnose()
