"""How the images of linear evaluation and fine-tuning are augmented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.data.network_images import (
    NetworkImages,
    Said,
    as_in_pretraining,
    network_images,
)
from mixbt_plugin.data.transforms import evaluation_transforms, view_transform
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation

Transform = Callable[[Any], Any]


def complete_images(cfg: DictConfig, pretraining: DictConfig | None) -> NetworkImages:
    """Says in a config of linear evaluation which images the network takes.

    They are those of pre-training, unless the config has another size or other statistics.

    Args:
        cfg: changed in place. ``data.augmentations`` is the size and the statistics of the images;
            where it says nothing, the first pipeline of ``augmentations`` is asked, then
            ``pretraining``, then the data set. That pipeline's own are completed likewise.
        pretraining: the config beside the checkpoint, where there is one.

    Returns:
        What ``data.augmentations`` says now.

    Raises:
        ValueError: names the key, the value and what would be right.
    """
    pipelines = cfg.get("augmentations")
    others = [as_in_pretraining(pretraining)] if pretraining else []
    if pipelines:
        others.insert(0, Said("augmentations", pipelines[0]))
        view = network_images(cfg.data.dataset, *others)
    given = OmegaConf.select(cfg, "data.augmentations") or {}
    images = network_images(cfg.data.dataset, Said("data.augmentations", given), *others)
    cfg.data.augmentations = images.as_config()
    if pipelines:
        pipelines[0] = OmegaConf.merge(pipelines[0], view.as_config())
    return images


def linear_transforms(cfg: DictConfig) -> tuple[Transform, Transform]:
    """Pipelines of training and of validation.

    Args:
        cfg: that `complete_images` has seen. Without ``augmentations`` training images are cropped
            and mirrored at random, as in solo-learn. ``[]`` is no augmentation: they are brought to
            the size as validation images are (mix-bt's transfer). A list of pipelines as in
            pre-training gives one view by the first (mix-bt's and HSIC-SSL's ``linear.py``).

    Returns:
        Both, from a PIL image to a tensor (3, H, W), of the size and with the statistics of
        ``data.augmentations``.
    """
    pipelines, images = cfg.get("augmentations"), cfg.data.augmentations
    train, val = evaluation_transforms(cfg.data.dataset, images.crop_size, images.mean, images.std)
    if pipelines is None:
        return train, val
    if not pipelines:
        return val, val
    return view_transform(cfg.data.dataset, OmegaConf.merge(pipelines[0], images)), val


def passes_transform(cfg: DictConfig) -> Any:
    """The views of an image whose features are averaged (fastssl's ``precache_outputs``).

    Args:
        cfg: as for `linear_transforms`, ``augmentations`` not ``[]``, with ``feature_passes``.

    Returns:
        A function from a PIL image to ``feature_passes`` tensors (3, H, W): the first as validation
        images are, the others augmented, by the first pipeline of ``augmentations`` as in
        pre-training, with its own size and statistics.
    """
    train, val = linear_transforms(cfg)
    pipelines = cfg.get("augmentations")
    augmented = view_transform(cfg.data.dataset, pipelines[0]) if pipelines else train
    return FullTransformPipeline(
        [NCropAugmentation(val, 1), NCropAugmentation(augmented, cfg.feature_passes - 1)]
    )
