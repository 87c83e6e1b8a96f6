"""Pipelines from PIL images to tensors that fit the data set and the image size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision import transforms

from mixbt_plugin.data.sources import SOURCES
from mixbt_plugin.host import FullTransformPipeline, NCropAugmentation, build_transform_pipeline

MEAN_AND_STD: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "stl10": ((0.4914, 0.4823, 0.4466), (0.247, 0.243, 0.261)),
    **{name: (source.mean, source.std) for name, source in SOURCES.items()},
}
WHOLE_IMAGE = ("cifar10", "cifar100", "stl10", *SOURCES)
Size = int | Sequence[int]


def pretrain_transform(cfg: DictConfig) -> Any:
    """The views of an image, from ``cfg.augmentations``, by the host's pipelines.

    Args:
        cfg: a parsed pre-training config. A pipeline's own ``mean`` and ``std`` are kept; for the
            data sets of `mixbt_plugin.data.sources` theirs are the default.

    Returns:
        A function from a PIL image to a list of tensors (3, H, W).
    """
    name = cfg.data.dataset
    pipelines = []
    for augmentation in cfg.augmentations:
        if name in SOURCES:
            mean, std = MEAN_AND_STD[name]
            augmentation.mean = augmentation.get("mean", list(mean))
            augmentation.std = augmentation.get("std", list(std))
        pipeline = build_transform_pipeline(name, augmentation)
        _normalize_by_plain_numbers(pipeline)
        pipelines.append(NCropAugmentation(pipeline, augmentation.num_crops))
    return FullTransformPipeline(pipelines)


def _normalize_by_plain_numbers(pipeline: Any) -> None:
    # A config's list is read element by element for each image: half of the pipeline's time.
    for step in pipeline.transforms:
        if isinstance(step, transforms.Normalize):
            step.mean, step.std = list(step.mean), list(step.std)


def evaluation_transforms(
    dataset: str,
    size: Size,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Pipelines of linear training and of validation, at the size that the network was trained on.

    They are solo-learn's (solo/data/classification_dataloader.py) but for three things that it
    fixes and these do not: custom images are not always brought to 224 pixels, CIFAR-100 is not
    normalised with CIFAR-10's statistics, and a data set of small images may be scaled.

    Args:
        dataset: name of the data set.
        size: height and width, or one number for both.
        mean: of the channels; the data set's own, or ImageNet's, by default.
        std: likewise.

    Returns:
        The training pipeline (a random crop, and a mirror image half of the time where a mirrored
        image keeps its class) and the validation pipeline, each to tensors (3, H, W).
    """
    height, width = _pair(size)
    default_mean, default_std = MEAN_AND_STD.get(
        dataset, (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    to_tensor = [
        transforms.ToTensor(),
        transforms.Normalize(mean or default_mean, std or default_std),
    ]
    crop: list[Any] = [transforms.RandomResizedCrop((height, width), scale=(0.08, 1.0))]
    if dataset not in SOURCES or SOURCES[dataset].flip:
        crop.append(transforms.RandomHorizontalFlip())
    if dataset in WHOLE_IMAGE:
        resize: list[Any] = [transforms.Resize((height, width))]
    else:
        # 256 for 224, the margin that ImageNet is evaluated with.
        resize = [
            transforms.Resize(round(max(height, width) * 256 / 224)),
            transforms.CenterCrop((height, width)),
        ]
    return transforms.Compose(crop + to_tensor), transforms.Compose(resize + to_tensor)


def _pair(size: Size) -> tuple[int, int]:
    if isinstance(size, (list, tuple, ListConfig)):
        height, width = size if len(size) == 2 else (size[0], size[0])
        return int(height), int(width)
    return int(size), int(size)  # type: ignore[arg-type]
