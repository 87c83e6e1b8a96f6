"""How the images of linear evaluation and fine-tuning are augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torchvision import transforms

from mixbt_plugin.data.properties import default_image_size
from mixbt_plugin.data.transforms import evaluation_transforms
from mixbt_plugin.host import build_transform_pipeline

Transform = Callable[[Any], Any]


def linear_transforms(cfg: DictConfig, given: Mapping[str, Any]) -> tuple[Transform, Transform]:
    """Pipelines of training and of validation.

    Args:
        cfg: with ``data.dataset`` and ``augmentations``. Without the latter training images are
            cropped and mirrored at random, as in solo-learn. ``[]`` is no augmentation: they are
            brought to the size as validation images are (mix-bt's transfer). A list of pipelines
            as in pre-training gives one view by the first (mix-bt's and HSIC-SSL's ``linear.py``).
        given: ``crop_size``, ``mean`` and ``std``, the config's ``data.augmentations``. The size is
            by default that of the pipeline or of the data set, the statistics are the data set's.

    Returns:
        Both, from a PIL image to a tensor (3, H, W), normalised alike.

    Raises:
        ValueError: ``augmentations`` is not a list.
    """
    pipelines = cfg.get("augmentations")
    if not (pipelines is None or OmegaConf.is_list(pipelines)):
        raise ValueError("augmentations: expected a list of pipelines as in pre-training, or [].")
    size = given.get("crop_size") or (
        pipelines[0].crop_size if pipelines else default_image_size(cfg.data.dataset)
    )
    train, val = evaluation_transforms(cfg.data.dataset, size, given.get("mean"), given.get("std"))
    if pipelines is None:
        return train, val
    if not pipelines:
        return val, val
    return _one_view(cfg, size, val), val


def _one_view(cfg: DictConfig, size: Any, val: transforms.Compose) -> Transform:
    augmentation: Any = OmegaConf.merge(cfg.augmentations[0], {"crop_size": size})
    pipeline: Any = build_transform_pipeline(cfg.data.dataset, augmentation)
    normalize = next(step for step in val.transforms if isinstance(step, transforms.Normalize))
    steps = [
        normalize if isinstance(step, transforms.Normalize) else step
        for step in pipeline.transforms
    ]
    return transforms.Compose(steps)
