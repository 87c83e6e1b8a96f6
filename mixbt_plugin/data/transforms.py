"""Pipelines from PIL images to tensors that fit the data set and the image size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from torchvision import transforms

from mixbt_plugin.checkpoints import ImageFormat
from mixbt_plugin.data.properties import properties
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation, build_transform_pipeline
from mixbt_plugin.settings import ConfigError, pipeline_names
from mixbt_plugin.views import BatchAugmentation, ViewSettings

Size = int | Sequence[int]


def pretrain_transform(cfg: DictConfig) -> Any:
    """The views of an image, from ``cfg.augmentations``, by the host's pipelines.

    Args:
        cfg: a parsed pre-training config; see `view_transform`.

    Returns:
        A function from a PIL image to a list of tensors (3, H, W).
    """
    return FullTransformPipeline(
        [
            NCropAugmentation(view_transform(cfg.data.dataset, entry), entry.num_crops)
            for entry in cfg.augmentations
        ]
    )


def view_transform(dataset: str, augmentation: Any) -> Any:
    """One view of an image, by the host's pipeline.

    Args:
        dataset: name of the data set.
        augmentation: an entry of ``augmentations``. Its own ``mean`` and ``std`` are used for
            every data set (solo-learn uses them for custom data alone), and the data set's without
            them. ``rrc.interpolation`` is ``bicubic``, as solo-learn's, or ``bilinear``; with
            ``rrc.after_color`` jitter and greyscale come before the crop, as in mix-bt's pipelines
            for 64 pixels (utils.py:36-94), and not after it, as in solo-learn's.

    Returns:
        A function from a PIL image to a tensor (3, H, W).
    """
    known = properties(dataset)
    pipeline: Any = build_transform_pipeline(dataset, augmentation)
    for step in pipeline.transforms:
        if isinstance(step, transforms.RandomResizedCrop):
            chosen = augmentation.rrc.get("interpolation", "bicubic")
            step.interpolation = transforms.InterpolationMode(chosen)
        if isinstance(step, transforms.Normalize):
            # As plain numbers: a config's list is read element by element for each image.
            step.mean = list(augmentation.get("mean") or known.mean)
            step.std = list(augmentation.get("std") or known.std)
    if augmentation.rrc.get("after_color"):
        _crop_after_color(pipeline)
    return pipeline


def _crop_after_color(pipeline: Any) -> None:
    """Takes the crop, the first step, to where mirroring and the tensor begin."""
    crop, *others = pipeline.transforms
    last = (transforms.RandomHorizontalFlip, transforms.ToTensor)
    place = next(n for n, step in enumerate(others) if isinstance(step, last))
    pipeline.transforms = [*others[:place], crop, *others[place:]]


def batch_augmentation(cfg: DictConfig) -> BatchAugmentation:
    """The same views, computed for whole batches on tensors (``data.augment: batch``).

    Raises:
        ValueError: a crop is not solo-learn's, bicubic and before the colours.
    """
    known = properties(cfg.data.dataset)
    entries: Any = OmegaConf.to_container(cfg.augmentations, resolve=True)
    for name, entry in zip(pipeline_names(cfg), entries):
        for key, expected in (("interpolation", "bicubic"), ("after_color", False)):
            found = entry["rrc"].get(key)
            if found not in (None, expected):
                raise ConfigError(
                    f"{name}.rrc.{key}={found!r} with data.augment='batch': "
                    f"expected {expected!r}; data.augment='image' takes both."
                )
    return BatchAugmentation(
        [
            ViewSettings.read(entry, entry.get("mean") or known.mean, entry.get("std") or known.std)
            for entry in entries
        ]
    )


def evaluation_transforms(
    dataset: str,
    size: Size,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[transforms.Compose, transforms.Compose]:
    """Pipelines of linear training and of validation, at the size that the network was trained on.

    solo-learn's (solo/data/classification_dataloader.py) are of one size for each data set, 224
    pixels for custom images, and normalise CIFAR-100 with CIFAR-10's statistics.

    Args:
        dataset: name of the data set.
        size: height and width, or one number for both.
        mean: of the channels; the data set's own, or ImageNet's, by default.
        std: likewise.

    Returns:
        The training pipeline (a random crop, and a mirror image half of the time where a mirrored
        image keeps its class) and the validation pipeline, each to tensors (3, H, W).
    """
    height, width = image_size(size)
    known = properties(dataset)
    to_tensor = [
        transforms.ToTensor(),
        transforms.Normalize(list(mean or known.mean), list(std or known.std)),
    ]
    crop: list[Any] = [transforms.RandomResizedCrop((height, width), scale=(0.08, 1.0))]
    if known.flip:
        crop.append(transforms.RandomHorizontalFlip())
    at_its_own_size = known.fixed_size and height == width == known.size
    if known.margin == 1 or at_its_own_size:
        resize: list[Any] = [transforms.Resize((height, width))]
    else:
        resize = [
            transforms.Resize(round(max(height, width) * known.margin)),
            transforms.CenterCrop((height, width)),
        ]
    return transforms.Compose(crop + to_tensor), transforms.Compose(resize + to_tensor)


def image_size(size: Size) -> tuple[int, int]:
    """Height and width of a config's ``crop_size``: two numbers, or one for both."""
    if isinstance(size, (list, tuple, ListConfig)):
        height, width = size if len(size) == 2 else (size[0], size[0])
        return int(height), int(width)
    return int(size), int(size)  # type: ignore[arg-type]


def still_transform(dataset: str, images: ImageFormat) -> transforms.Compose:
    """How an image is brought to a network without augmentation: that of validation."""
    return evaluation_transforms(dataset, images.size, images.mean, images.std)[1]
