"""Devices, loaders and configs, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.apps.command import config_root
from mixbt_plugin.apps.schema import check_linear, check_pretraining
from mixbt_plugin.apps.training import device_ids, prepare
from mixbt_plugin.data import linear_transforms, pretrain_transform
from mixbt_plugin.host import METHODS, build_backbone, parse_linear_cfg, parse_pretrain_cfg
from mixbt_plugin.methods import LinearEvaluation
from tests.apps.composing import composed
from tests.images import image_folder

SHIPPED = sorted(
    path.relative_to(config_root())
    for path in config_root().rglob("*.yaml")
    if path.parent.name != "augmentations" and path.stem != "base"
)


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


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_shipped_config_composes_parses_and_builds(path: Path, tmp_path: Path) -> None:
    cfg = composed(path)
    task = path.parts[0]
    if task == "pretrain":
        prepare(cfg, check_pretraining)
        cfg = parse_pretrain_cfg(cfg)
        model = METHODS[cfg.method](cfg)
        assert len(model.learnable_params) == 3
        assert len(pretrain_transform(cfg).transforms) == len(cfg.augmentations)
    elif task in ("linear", "finetune", "transfer"):
        cfg.pretrained_feature_extractor = "a.ckpt"
        cfg.backbone.name = "narrow_resnet10"
        for key in ("train_path", "val_path"):
            Path(cfg.data[key], "class0").mkdir(parents=True, exist_ok=True)
        prepare(cfg, check_linear)
        cfg = parse_linear_cfg(cfg)
        LinearEvaluation(build_backbone(cfg, None)[0], cfg)
        linear_transforms(cfg, {})
    elif task == "compare":
        for method in cfg.methods:
            assert Path(cfg.config_path, f"{method}.yaml") in {shipped for shipped in SHIPPED}
    else:
        assert task in ("knn", "export")


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parts[0] == "pretrain"], ids=str)
def test_configs_say_what_they_are(path: Path) -> None:
    first = (config_root() / path).read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "paper reports" in first or "No number is known" in first or "92.10" in first


def test_four_views_are_two_large_and_two_small() -> None:
    cfg = composed(Path("pretrain/cifar/multiaug_barlow_twins.yaml"))
    prepare(cfg, check_pretraining)
    cfg = parse_pretrain_cfg(cfg)
    assert (cfg.data.num_large_crops, cfg.data.num_small_crops) == (2, 2)


def test_image_folder_helper(tmp_path: Path) -> None:
    assert len(list(image_folder(tmp_path / "x", 2).rglob("*.png"))) == 24
