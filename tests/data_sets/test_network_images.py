"""Which size and statistics a checkpoint is evaluated with, and who says so."""

from __future__ import annotations

import math
from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.data import (
    Said,
    as_in_pretraining,
    complete_images,
    linear_transforms,
    network_images,
    properties,
)
from mixbt_plugin.data.network_images import PRETRAINING

CUSTOM, CIFAR = properties("custom"), properties("cifar10")


def pretraining(dataset: str = "cifar10", **first: Any) -> Any:
    pipelines = [{"crop_size": 48, **first}, {"crop_size": 16}]
    return OmegaConf.create({"data": {"dataset": dataset}, "augmentations": pipelines})


def evaluation(**data: Any) -> Any:
    return OmegaConf.create({"data": {"dataset": "custom", **data}})


def test_another_data_set_is_seen_as_that_of_pretraining() -> None:
    """Its size and its statistics, whether args.json or the data set has them."""
    images = complete_images(evaluation(), pretraining())
    assert (images.size, images.mean, images.std) == ((48, 48), CIFAR.mean, CIFAR.std)
    assert images.origin == PRETRAINING
    images = complete_images(evaluation(), pretraining(mean=[0.1, 0.2, 0.3], crop_size=[8, 16]))
    assert (images.size, images.mean, images.std) == ((8, 16), (0.1, 0.2, 0.3), CIFAR.std)
    assert images.labels() == {
        "crop_size": [8, 16],
        "mean": [0.1, 0.2, 0.3],
        "std": list(CIFAR.std),
        "images_as": PRETRAINING,
    }


def test_keys_override_one_by_one() -> None:
    cfg = evaluation(augmentations={"crop_size": None, "std": [1, 2, 3]})
    images = complete_images(cfg, pretraining())
    assert (images.size, images.mean, images.std) == ((48, 48), CIFAR.mean, (1, 2, 3))
    assert images.origin == f"crop_size, mean of {PRETRAINING}; std of data.augmentations"
    assert str(images).startswith("48 x 48 px, mean 0.4914 0.4822 0.4465, std 1 2 3: crop_size")
    assert cfg.data.augmentations == images.as_config()


def test_without_args_json_the_data_set_tells() -> None:
    images = complete_images(evaluation(), None)
    assert (images.size, images.mean, images.std) == ((224, 224), CUSTOM.mean, CUSTOM.std)
    assert images.origin == "the data set's own (custom)"


def test_a_linear_evaluation_says_it_in_its_own_config() -> None:
    """Its checkpoint may be fine-tuned, and evaluated in its turn."""
    theirs = evaluation(augmentations={"crop_size": 20, "mean": [0.0] * 3, "std": [2.0] * 3})
    images = network_images("custom", as_in_pretraining(theirs))
    assert (images.size, images.mean, images.std) == ((20, 20), (0.0,) * 3, (2.0,) * 3)


def test_the_protocols_own_pipeline_comes_before_pretraining() -> None:
    """Its mean and std too, which were ignored."""
    view = {
        "crop_size": 24,
        "mean": [0.5, 0.5, 0.5],
        "num_crops": 1,
        "rrc": {"enabled": False},
        **{
            name: {"prob": 0.0}
            for name in (
                *("color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization"),
                "horizontal_flip",
            )
        },
    }
    cfg = OmegaConf.merge(evaluation(), {"augmentations": [view]})
    images = complete_images(cfg, pretraining())  # type: ignore[arg-type]
    assert (images.size, images.mean, images.std) == ((24, 24), (0.5,) * 3, CIFAR.std)
    assert list(cfg.augmentations[0].std) == list(CIFAR.std)
    for transform in linear_transforms(cfg):  # type: ignore[arg-type]
        normalize: Any = transform.transforms[-1]  # type: ignore[attr-defined]
        assert list(normalize.mean) == [0.5] * 3


@pytest.mark.parametrize(
    "key,value",
    [
        *(("crop_size", value) for value in (0, -3, 1.5, [], [8, 8, 8], "large", True, math.inf)),
        *(("mean", value) for value in (0.5, [0.5], [0.5, 0.5, math.nan], [0.5, 0.5, "x"], [])),
        *(("std", value) for value in ([0, 0, 0], [1, 1], [1, 1, -1], [1, 1, math.inf])),
    ],
)
def test_refusals(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^data.augmentations.{key}=.*: expected "):
        network_images("cifar10", Said("data.augmentations", OmegaConf.create({key: value})))
