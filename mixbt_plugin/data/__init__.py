"""Data sets and evaluation pipelines beside those of the host."""

from mixbt_plugin.data.batches import BatchKey, BatchViews, DrawnBatch, as_tensor
from mixbt_plugin.data.checks import check_data, existing_path
from mixbt_plugin.data.dali import (
    check_dali,
    dali_evaluation,
    dali_pretraining,
    damaged_file_named,
)
from mixbt_plugin.data.datasets import (
    evaluation_datasets,
    has_training_labels,
    number_of_classes,
    pretrain_dataset,
    split_as_it_is,
    unlabelled_files,
    validation_dataset,
)
from mixbt_plugin.data.linear_transforms import (
    complete_images,
    linear_transforms,
    passes_transform,
)
from mixbt_plugin.data.network_images import (
    NetworkImages,
    Said,
    as_in_pretraining,
    network_images,
)
from mixbt_plugin.data.properties import PROPERTIES, properties
from mixbt_plugin.data.reading import UnreadableImageError, count_replaced, read_image
from mixbt_plugin.data.sources import INSIDE, SOURCES, ImageSource
from mixbt_plugin.data.subsets import require_a_batch, take_fraction, take_part
from mixbt_plugin.data.transforms import (
    batch_augmentation,
    evaluation_transforms,
    image_size,
    pretrain_transform,
    still_transform,
)

__all__ = [
    "INSIDE",
    "PROPERTIES",
    "SOURCES",
    "BatchKey",
    "BatchViews",
    "DrawnBatch",
    "ImageSource",
    "NetworkImages",
    "Said",
    "UnreadableImageError",
    "as_in_pretraining",
    "as_tensor",
    "batch_augmentation",
    "check_dali",
    "check_data",
    "complete_images",
    "count_replaced",
    "dali_evaluation",
    "dali_pretraining",
    "damaged_file_named",
    "evaluation_datasets",
    "evaluation_transforms",
    "existing_path",
    "has_training_labels",
    "image_size",
    "linear_transforms",
    "network_images",
    "number_of_classes",
    "passes_transform",
    "pretrain_dataset",
    "pretrain_transform",
    "properties",
    "read_image",
    "require_a_batch",
    "split_as_it_is",
    "still_transform",
    "take_fraction",
    "take_part",
    "unlabelled_files",
    "validation_dataset",
]
