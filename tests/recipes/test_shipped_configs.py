"""Every shipped pre-training config composes, parses and builds; each distinct one trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mixbt_plugin.apps.overrides import RECIPE_KEYS
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.keys import SOLO_LEARN_SCRIPT, PretrainConfig
from mixbt_plugin.registry import register
from tests.made_images import make, make_unlabelled, without_checksums
from tests.recipes.shipped import (
    CONFIGS,
    FIELDS,
    built,
    composed,
    header,
    parsed,
    plain,
    slug,
    written,
)

register()


@pytest.mark.parametrize("config", CONFIGS, ids=slug)
def test_config_composes_and_parses(config: str, tmp_path: Path) -> None:
    (tmp_path / "class0").mkdir()
    assert "${" not in json.dumps(plain(parsed(config, tmp_path)))


def distinct_networks() -> list[str]:
    """A config for each network: they differ in less than building one costs."""
    chosen: dict[str, str] = {}
    for config in CONFIGS:
        said = written(config)
        network = [said.get(key) for key in ("method", "method_kwargs", "backbone")]
        chosen.setdefault(str([*network, said["data"].get("dataset")]), config)
    return list(chosen.values())


@pytest.mark.parametrize("config", distinct_networks(), ids=slug)
def test_network_builds(config: str, tmp_path: Path) -> None:
    (tmp_path / "class0").mkdir()
    model = built(parsed(config, tmp_path))
    names = [group["name"] for group in model.learnable_params]
    assert {"backbone", "classifier", "projector"} <= set(names)


@pytest.mark.parametrize("config", CONFIGS, ids=slug)
def test_config_says_what_it_reproduces(config: str) -> None:
    fields = header(config)
    assert set(FIELDS) <= set(fields) <= {*FIELDS, "Deviates", "Variants"}
    assert all(fields.values())
    assert fields["Run here"].split(",")[0] in ("yes", "no")


@pytest.mark.parametrize("config", CONFIGS, ids=slug)
def test_what_a_recipe_names_for_itself_may_be_left_over(config: str) -> None:
    assert set(composed(config)) <= {*PretrainConfig.model_fields, *RECIPE_KEYS, *SOLO_LEARN_SCRIPT}


def code_paths(config: str) -> set[str]:
    """What of a recipe decides which code runs: names and switches, not sizes and weights."""
    said = written(config)
    switches = {
        key: value
        for key, value in said.get("method_kwargs", {}).items()
        if isinstance(value, (bool, str)) or not value
    }
    method = said["method"], sorted(switches.items())
    views = said["defaults"], sorted(said.get("augmentations", []))
    optimizer = said["optimizer"].get("name"), sorted(said["optimizer"])
    scheduler = said.get("scheduler", {}).get("name")
    data = said["data"].get("dataset"), said["data"].get("no_labels")
    fraction = said["data"].get("fraction", -1) > 0
    backbone = said["backbone"].get("name", "")[:4], said["backbone"].get("kwargs")
    return {str(part) for part in (method, views, optimizer, scheduler, data, fraction, backbone)}


def distinct_configs() -> list[str]:
    """Configs that take every code path of all of them."""
    chosen, taken = [], set[str]()
    for config in CONFIGS:
        if not code_paths(config) <= taken:
            taken |= code_paths(config)
            chosen.append(config)
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("config", distinct_configs(), ids=slug)
def test_two_training_steps_on_made_images_whose_checksums_are_not_checked(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_checksums(monkeypatch)
    cfg = composed(config)
    OmegaConf.set_struct(cfg, False)
    cfg.method_kwargs = plain(cfg.method_kwargs)  # before sizes change: lambs are by size
    images = tmp_path / "images"
    folder = cfg.data.dataset == "custom" and cfg.data.get("no_labels")
    data = make_unlabelled(images) if folder else make(cfg.data.dataset, images)
    cfg.data.update({**data, "num_workers": 0})
    cfg.optimizer.batch_size = 4
    cfg.backbone.name = cfg.backbone.name.replace("50", "18")
    for key in ("proj_hidden_dim", "proj_output_dim"):
        cfg.method_kwargs[key] = 32
    for view in cfg.augmentations:
        view.crop_size = smaller(plain(view)["crop_size"])
    small: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
    machine = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": 32}
    cfg.update({**small, **machine, "strategy": "auto", "knn_eval": {"enabled": False}})
    (checkpoint,) = pretrain(cfg).glob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2


def smaller(crop_size: int | list[int]) -> int | list[int]:
    """At most 32 pixels; a list stays a list, for solo-learn counts it differently."""
    if isinstance(crop_size, list):
        return [min(size, 32) for size in crop_size]
    return min(crop_size, 32)
