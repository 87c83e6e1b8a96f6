"""Whole images at one length of the shorter side make a batch only if they are of one shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.settings import ConfigError
from tests.apps.composing import composed

SMALL = (
    *("data.train_path=images", "data.val_path=null", "data.num_workers=0", "max_epochs=1"),
    *("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8", "optimizer.batch_size=20"),
    *("scheduler.warmup_epochs=0", "precision=32", "accelerator=cpu", "limit_train_batches=1"),
    *("method_kwargs.proj_hidden_dim=16", "method_kwargs.proj_output_dim=16"),
    *("view.rrc.enabled=false", "second_view.rrc.enabled=false"),
)
ONE_NUMBER = ("view.crop_size=24", "second_view.crop_size=24")
TWO_NUMBERS = ("view.crop_size=[24,24]", "second_view.crop_size=[24,24]")


def write(path: str, height: int, width: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def run(*words: str) -> Any:
    return pretrain(composed("pretrain/custom/mixbt.yaml", *SMALL, *words))


@pytest.mark.parametrize("augment", ["image", "batch"])
def test_other_shapes_are_refused_before_training(augment: str) -> None:
    for n in range(20):
        write(f"images/class{n % 2}/{n}.png", 24 + n % 3, 32)
    message = (
        r"view\.crop_size=24 with view\.rrc\.enabled=False is the length of the shorter side: "
        r"images of 24 x 32 and of 25 x 32 become views of 24 x 32 and of 24 x 30,"
    )
    with pytest.raises(ConfigError, match=message):
        run(*ONE_NUMBER, f"data.augment={augment}")
    assert not Path("trained_models").exists()
    run(*TWO_NUMBERS, f"data.augment={augment}")


@pytest.mark.parametrize("augment", ["image", "batch"])
def test_one_that_is_not_looked_at_is_said_at_its_batch(augment: str) -> None:
    for n in range(20):
        write(f"images/class0/{n:02}.png", 24, 28 if n == 6 else 32)
    with pytest.raises(ConfigError, match=r"rrc\.enabled=[fF]alse .* \[height, width\]"):
        run(*ONE_NUMBER, f"data.augment={augment}")
