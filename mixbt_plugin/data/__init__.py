"""Data sets and evaluation pipelines beside those of the host."""

from mixbt_plugin.data.datasets import (
    default_image_size,
    evaluation_datasets,
    pretrain_dataset,
    take_fraction,
)
from mixbt_plugin.data.sources import SOURCES, ImageSource
from mixbt_plugin.data.transforms import evaluation_transforms, pretrain_transform

__all__ = [
    "SOURCES",
    "ImageSource",
    "default_image_size",
    "evaluation_datasets",
    "evaluation_transforms",
    "pretrain_dataset",
    "pretrain_transform",
    "take_fraction",
]
