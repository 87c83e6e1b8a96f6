"""solo-learn's own DALI loaders (solo/data/dali_dataloader.py), with or without a GPU.

solo-learn hands the process's number to DALI as a GPU, also with ``dali.device: cpu``, and DALI
then asks for a CUDA driver. Here its CPU pipelines are built without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from mixbt_plugin.data.files import ImageFiles, Listing, class_names
from mixbt_plugin.data.names import is_hidden
from mixbt_plugin.data.properties import properties
from mixbt_plugin.data.reading import UnreadableImageError, look_at_a_few
from mixbt_plugin.data.subsets import require_a_batch, take_fraction
from mixbt_plugin.evaluation.accuracy import NO_LABEL
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation, dali_loaders
from mixbt_plugin.settings import ConfigError, pipeline_names


def check_dali(cfg: DictConfig) -> None:
    """Checks a config with ``data.format: dali``, parsed or not.

    Args:
        cfg: with ``data``, ``dali`` and, in pre-training, ``augmentations``.

    Raises:
        ValueError: solo-learn is not there; or something that its DALI loaders cannot do, or only
            find while they train; names the key, the value and what would be right.
        ModuleNotFoundError: DALI is not installed.
    """
    dali_loaders()
    if cfg.dali.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "dali.device='gpu', which is solo-learn's default: there is no CUDA GPU here; "
            "dali.device=cpu decodes and augments without one."
        )
    if cfg.data.get("unreadable") == "skip":
        raise ConfigError(
            "data.unreadable='skip' with data.format='dali': DALI stops at a file that it cannot "
            "read; data.format=image_folder can skip it."
        )
    if cfg.data.get("train_subset") is not None:
        raise ConfigError(
            f"data.train_subset={cfg.data.train_subset!r} with data.format='dali': DALI reads "
            "whole folders; data.format=image_folder and h5 take the files of a list, and "
            "data.fraction takes a share with DALI too."
        )
    for name, pipeline in zip(pipeline_names(cfg), cfg.get("augmentations") or []):
        if pipeline.equalization.prob:
            raise ConfigError(
                f"{name}.equalization.prob={pipeline.equalization.prob} with "
                "data.format='dali': solo-learn's DALI pipelines have none; expected 0."
            )
        _square(pipeline.crop_size, f"{name}.crop_size")


def dali_pretraining(cfg: DictConfig, world_size: int) -> Any:
    """The training images of a parsed pre-training config.

    A pipeline's ``crop_size`` may be a list of two equal numbers, as for further views of one
    size; solo-learn's DALI pipelines take one number.

    Args:
        cfg: that `check_dali` has passed.
        world_size: number of processes, which share the images.

    Returns:
        A Lightning data module.

    Raises:
        ValueError: the folder holds something else than images, or too few for a batch.
    """
    _require_a_batch(cfg, world_size)
    loaders = dali_loaders()
    known = properties(cfg.data.dataset)
    pipelines = []
    for name, augmentation in zip(pipeline_names(cfg), cfg.augmentations):
        size = _square(augmentation.crop_size, f"{name}.crop_size")
        for_dali: Any = augmentation.copy()
        for_dali.crop_size = size
        for_dali.mean = augmentation.get("mean") or list(known.mean)
        for_dali.std = augmentation.get("std") or list(known.std)
        # Called custom, it takes these statistics, as our other formats do for every data set.
        pipeline = loaders.build_transform_pipeline_dali(
            "custom", for_dali, dali_device=cfg.dali.device
        )
        pipelines.append(NCropAugmentation(pipeline, augmentation.num_crops))
    module = _data_module(loaders.PretrainDALIDataModule, loaders, cfg)
    return module(
        dataset=cfg.data.dataset,
        train_data_path=cfg.data.train_path,
        transforms=FullTransformPipeline(pipelines),
        num_large_crops=cfg.data.num_large_crops,
        num_small_crops=cfg.data.num_small_crops,
        num_workers=max(1, cfg.data.num_workers),
        batch_size=cfg.optimizer.batch_size,
        no_labels=cfg.data.no_labels,
        data_fraction=cfg.data.fraction,
        dali_device=cfg.dali.device,
        encode_indexes_into_labels=cfg.dali.encode_indexes_into_labels,
    )


def dali_evaluation(cfg: DictConfig, world_size: int) -> Any:
    """The training images of a parsed config of linear evaluation.

    solo-learn's pipeline crops to 224 pixels and normalises with ImageNet's statistics; here
    ``data.augmentations`` is followed.

    Args:
        cfg: that `check_dali` has passed, and `complete_images` completed.
        world_size: number of processes, which share the images.

    Returns:
        A Lightning data module; its validation images are to be replaced.

    Raises:
        ValueError: the folder holds something else than images, or too few for a batch.
    """
    _require_a_batch(cfg, world_size)
    loaders = dali_loaders()
    module = _data_module(loaders.ClassificationDALIDataModule, loaders, cfg)(
        dataset=cfg.data.dataset,
        train_data_path=cfg.data.train_path,
        val_data_path=cfg.data.val_path,
        num_workers=max(1, cfg.data.num_workers),
        batch_size=cfg.optimizer.batch_size,
        data_fraction=cfg.data.fraction,
        dali_device=cfg.dali.device,
    )
    images = cfg.data.augmentations
    size = _square(images.crop_size, "data.augmentations.crop_size")
    module.pipeline_class = _cropping_to(module.pipeline_class, size, images.mean, images.std)
    return module


def _data_module(base: Any, loaders: Any, cfg: DictConfig) -> Any:
    if cfg.dali.device == "gpu":
        return base

    class OnTheCPU(base):
        """The data module, which sets its pipelines up without a CUDA driver."""

        def setup(self, stage: str | None = None) -> None:
            builders = loaders.PretrainPipelineBuilder, loaders.NormalPipelineBuilder
            with _without_device(builders[0]), _without_device(builders[1]):
                super().setup(stage)

    return OnTheCPU


@contextmanager
def _without_device(builder: Any) -> Iterator[None]:
    """Pipelines of a builder of solo-learn's get no ``device_id`` (its lines 789, 912 and 939)."""
    pipeline = builder.pipeline

    def on_the_cpu(self: Any, **kwargs: Any) -> Any:
        return pipeline(self, **{**kwargs, "device_id": None})

    builder.pipeline = on_the_cpu
    try:
        yield
    finally:
        builder.pipeline = pipeline


def _cropping_to(base: Any, size: int, mean: Any, std: Any) -> Any:
    loaders = dali_loaders()
    ops, types = loaders.ops, loaders.types

    class Cropping(base):
        """A builder whose training pipeline has another size and other statistics."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.validation:
                return
            self.resize = ops.RandomResizedCrop(
                device=self.device,
                size=size,
                random_area=(0.08, 1.0),
                interp_type=types.INTERP_CUBIC,
            )
            self.cmn = ops.CropMirrorNormalize(
                device=self.device,
                dtype=types.FLOAT,
                output_layout=types.NCHW,
                mean=[255 * value for value in mean],
                std=[255 * value for value in std],
            )

    return Cropping


def _square(size: Any, key: str) -> int:
    sides = set(size) if isinstance(size, (list, ListConfig)) else {size}
    if len(sides) > 1:
        raise ConfigError(
            f"{key}={list(size)} with data.format='dali': solo-learn's DALI pipelines crop "
            "squares; expected one number, or two that are equal."
        )
    return int(sides.pop())


def _require_a_batch(cfg: DictConfig, world_size: int) -> None:
    files = ImageFiles(_listing(cfg.data.train_path, cfg.data.get("no_labels", False)), str)
    look_at_a_few(files, skip=False)
    require_a_batch(cfg, len(take_fraction(files, cfg.data.fraction)), world_size)


def _listing(root: str | Path, no_labels: bool) -> Listing:
    """The files that DALI will read: all there are, whatever their suffix."""
    try:
        folders = [""] if no_labels else class_names(root)
    except FileNotFoundError as error:
        raise ConfigError(f"data.train_path={str(root)!r}: {error}") from error
    with_dali = f"data.train_path={str(root)!r} with data.format='dali'"
    for entry in os.scandir(root):
        if entry.is_dir() and is_hidden(entry.name):
            raise ConfigError(
                f"{with_dali}: {entry.path} is hidden, and solo-learn counts it as a class."
            )
    paths, targets = [], []
    for number, folder in enumerate(folders):
        for entry in sorted(os.scandir(Path(root, folder)), key=lambda entry: entry.name):
            if is_hidden(entry.name):
                raise ConfigError(f"{with_dali}: {entry.path} is hidden, and DALI reads it.")
            if entry.is_dir() or not entry.name.lower().endswith(IMG_EXTENSIONS):
                raise ConfigError(
                    f"{with_dali}: {entry.path} is not an image, and DALI reads every file for one."
                )
            paths.append(entry.path)
            targets.append(NO_LABEL if no_labels else number)
    return Listing(paths, targets, [] if no_labels else folders)


@contextmanager
def damaged_file_named(module: Any) -> Iterator[None]:
    """What DALI's decoder cannot read is named, which DALI itself does not.

    Args:
        module: the data module that is trained with.

    Raises:
        UnreadableImageError: names the first file that is no image, where its beginning tells.
    """
    try:
        yield
    except RuntimeError as error:
        if "dali.ops.decoders" in str(error):
            raise _damaged_file(module, error) from error
        raise


def _damaged_file(module: Any, error: RuntimeError) -> UnreadableImageError:
    listing = _listing(module.train_data_path, getattr(module, "no_labels", False))
    for path in listing.paths:
        try:
            Image.open(path).close()
        except Exception as found:
            return UnreadableImageError(f"{path}: cannot be read as an image ({found}).")
    return UnreadableImageError(
        f"data.train_path={str(module.train_data_path)!r}: DALI cannot decode one of the files, "
        f"and does not say which; data.format=image_folder names it. DALI says: {error}"
    )
