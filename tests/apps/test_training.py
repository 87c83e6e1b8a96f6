"""Devices, loaders and configs, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.apps.training import device_ids, prepare
from mixbt_plugin.host import parse_pretrain_cfg
from tests.apps.composing import composed
from tests.images import image_folder


@pytest.mark.parametrize(
    "devices,ids",
    [
        (1, [0]),
        (2, [0, 1]),
        ("1", [0]),
        ("2", [0, 1]),
        ([0], [0]),
        ("0,1", [0, 1]),
        ("auto", [0]),
        (-1, [0]),
        (None, [0]),
        (OmegaConf.create([0, 2]), [0, 2]),
    ],
)
def test_devices(devices: Any, ids: list[int]) -> None:
    assert device_ids(devices, gpu=False) == ids


@pytest.mark.parametrize("devices", [0, -2, "two", [], [0, 0], [-1], "1.5", {}])
def test_bad_devices(devices: Any) -> None:
    with pytest.raises(ValueError, match="devices="):
        device_ids(devices, gpu=False)


def test_four_views_are_two_large_and_two_small() -> None:
    cfg = composed(Path("pretrain/cifar/multiaug_barlow_twins.yaml"))
    prepare(cfg, check_pretraining)
    cfg = parse_pretrain_cfg(cfg)
    assert (cfg.data.num_large_crops, cfg.data.num_small_crops) == (2, 2)


def test_image_folder_helper(tmp_path: Path) -> None:
    assert len(list(image_folder(tmp_path / "x", 2).rglob("*.png"))) == 24
