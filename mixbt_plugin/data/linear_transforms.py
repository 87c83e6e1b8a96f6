"""How the images of linear evaluation and fine-tuning are augmented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torchvision import transforms

from mixbt_plugin.data.properties import default_image_size
from mixbt_plugin.data.transforms import evaluation_transforms, view_transform
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation

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
    normalize = next(step for step in val.transforms if isinstance(step, transforms.Normalize))
    alike = {"crop_size": size, "mean": normalize.mean, "std": normalize.std}
    return view_transform(cfg.data.dataset, OmegaConf.merge(cfg.augmentations[0], alike))


def passes_transform(cfg: DictConfig, given: Mapping[str, Any]) -> Any:
    """The views of an image whose features are averaged (fastssl's ``precache_outputs``).

    Args:
        cfg: as for `linear_transforms`, ``augmentations`` not ``[]``, with ``feature_passes``.
        given: likewise; of the first view.

    Returns:
        A function from a PIL image to ``feature_passes`` tensors (3, H, W): the first as validation
        images are, the others augmented, by the first pipeline of ``augmentations`` as in
        pre-training, with its own size and statistics.
    """
    train, val = linear_transforms(cfg, given)
    pipelines = cfg.get("augmentations")
    augmented = view_transform(cfg.data.dataset, pipelines[0]) if pipelines else train
    return FullTransformPipeline(
        [NCropAugmentation(val, 1), NCropAugmentation(augmented, cfg.feature_passes - 1)]
    )
