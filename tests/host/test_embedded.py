"""The stand-in's own pieces; where solo-learn is there, against solo-learn's."""

from __future__ import annotations

import copy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from mixbt_plugin.backbones import build_backbone
from mixbt_plugin.data import PROPERTIES
from mixbt_plugin.host.embedded import dali_loaders
from mixbt_plugin.host.embedded.backbones import BACKBONES
from mixbt_plugin.host.embedded.base import OptimizedModule
from mixbt_plugin.host.embedded.config import parse_linear_cfg, parse_pretrain_cfg
from mixbt_plugin.host.embedded.optimization import (
    LARS,
    LinearWarmupCosineAnnealingLR,
    without_decay_on_bias_and_norm,
)
from mixbt_plugin.host.embedded.transforms import build_transform_pipeline

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def known_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands tell the parser of a run's data set."""
    monkeypatch.setattr("mixbt_plugin.host.embedded.config.NUM_CLASSES", {"cifar10": 10})


def pretrain_cfg(**changes: Any) -> Any:
    cfg = OmegaConf.create(
        {
            "name": "x",
            "method": "mixbt",
            "backbone": {"name": "resnet18"},
            "data": {"dataset": "cifar10", "train_path": ".", "val_path": "."},
            "optimizer": {"name": "lars", "batch_size": 128, "lr": 0.3, "classifier_lr": 0.1},
            "scheduler": {"name": "warmup_cosine"},
            "augmentations": [
                {"crop_size": 32, "num_crops": 2},
                {"crop_size": [32, 32], "num_crops": 3},
            ],
            "max_epochs": 10,
            "devices": [0, 1],
        }
    )
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def trajectory(optimizer_class: Any, schedule_class: Any = None, **kwargs: Any) -> torch.Tensor:
    network = small_network()
    generator = torch.Generator().manual_seed(1)
    optimizer = optimizer_class(
        [
            {"params": network[:2].parameters()},
            {"params": network[3].parameters(), "lr": 0.05, "weight_decay": 0},
        ],
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-2,
        **kwargs,
    )
    schedule = schedule_class and schedule_class(
        optimizer, warmup_epochs=3, max_epochs=12, warmup_start_lr=0.001, eta_min=0.002
    )
    path = []
    for _ in range(12):
        path += [p.detach().flatten().clone() for p in network.parameters()]
        path.append(torch.tensor([group["lr"] for group in optimizer.param_groups]))
        optimizer.zero_grad()
        network(torch.randn(8, 4, generator=generator)).square().sum().backward()
        optimizer.step()
        if schedule:
            schedule.step()
    return torch.cat(path)


def test_lars_takes_a_hand_computed_step() -> None:
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([2.0]))
    weight.grad, bias.grad = torch.tensor([[0.6, 0.8]]), torch.tensor([0.5])
    LARS([weight, bias], lr=0.1, weight_decay=0.2, eta=0.01, exclude_bias_n_norm=True).step()
    # |w| = 5, |g| = 1, ratio = 0.01 · 5 / (1 + 0.2 · 5), update = ratio · (g + 0.2 w)
    torch.testing.assert_close(weight.data, torch.tensor([[2.997, 3.996]]))
    torch.testing.assert_close(bias.data, torch.tensor([1.95]))


def test_lars_steps_in_the_precision_of_the_weights() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    weight.grad = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    LARS([weight], lr=0.1, weight_decay=0.2, eta=0.01, eps=0.0).step()
    expected = torch.tensor([[2.997, 3.996]], dtype=torch.float64)
    torch.testing.assert_close(weight.data, expected, rtol=0, atol=1e-12)


@pytest.mark.solo_learn
@pytest.mark.parametrize("clip_lr", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
def test_lars_and_schedule_are_solo_learns(clip_lr: bool, exclude: bool) -> None:
    kwargs = {"eta": 0.02, "clip_lr": clip_lr, "exclude_bias_n_norm": exclude}
    theirs = trajectory(
        import_module("solo.utils.lars").LARS,
        import_module("solo.utils.lr_scheduler").LinearWarmupCosineAnnealingLR,
        **kwargs,
    )
    ours = trajectory(LARS, LinearWarmupCosineAnnealingLR, **kwargs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_schedule_at_its_corners() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = LinearWarmupCosineAnnealingLR(
        optimizer, warmup_epochs=10, max_epochs=110, warmup_start_lr=0.1, eta_min=0.0
    )
    rates = []
    for _ in range(111):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0.1
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.5)
    assert rates[110] == pytest.approx(0.0, abs=1e-12)


def test_a_schedule_that_the_host_has_not_is_refused_where_it_is_asked_for() -> None:
    """As in solo-learn, whose parser does not look at its name: methods may have their own."""
    module = OptimizedModule()
    module.scheduler = "barlow_cosine"
    with pytest.raises(ValueError, match="scheduler.name='barlow_cosine': expected warmup_cosine"):
        module.build_scheduler(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))


def test_no_decay_on_bias_and_norm() -> None:
    network = small_network()
    groups = without_decay_on_bias_and_norm([{"name": "net", "params": network.parameters()}])
    assert [(g["name"], len(g["params"]), g.get("weight_decay")) for g in groups] == [
        ("net", 2, None),
        ("net_no_decay", 4, 0),
    ]


def test_parsing_scales_rates_and_counts_views() -> None:
    cfg = parse_pretrain_cfg(pretrain_cfg())
    assert cfg.optimizer.lr == pytest.approx(0.3)
    assert cfg.optimizer.classifier_lr == pytest.approx(0.1)
    assert (cfg.data.num_large_crops, cfg.data.num_small_crops) == (2, 3)
    assert cfg.data.num_classes == 10
    assert cfg.optimizer.kwargs.momentum == 0.9


@pytest.mark.solo_learn
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer__name": "sgd"},
        {"optimizer__name": "adamw", "accumulate_grad_batches": 2},
        {"data__val_path": None, "num_nodes": 3},
    ],
)
def test_parsing_agrees_with_solo_learn(changes: dict[str, Any]) -> None:
    """Every key of solo-learn's that the stand-in sets has its value."""
    theirs = import_module("solo.args.pretrain").parse_cfg(pretrain_cfg(**changes))
    base_method = import_module("solo.methods.base").BaseMethod
    theirs = base_method.add_and_assert_specific_cfg(theirs)
    ours = parse_pretrain_cfg(pretrain_cfg(**changes))
    compare(OmegaConf.to_container(ours), OmegaConf.to_container(theirs), "")


@pytest.mark.solo_learn
def test_linear_parsing_agrees_with_solo_learn() -> None:
    cfg = pretrain_cfg(pretrained_feature_extractor="x.ckpt", scheduler__name="step")
    theirs = import_module("solo.args.linear").parse_cfg(copy.deepcopy(cfg))
    theirs = import_module("solo.methods.linear").LinearModel.add_and_assert_specific_cfg(theirs)
    ours = parse_linear_cfg(cfg)
    compare(OmegaConf.to_container(ours), OmegaConf.to_container(theirs), "")


DEVIATIONS = (".strategy", ".data.augmentations", ".checkpoint.enabled")
"""Lightning refuses a strategy that is null; images of 224 pixels are not pre-training's; and
weights are saved unless a config says otherwise."""


def compare(ours: Any, theirs: Any, key: str) -> None:
    if isinstance(ours, dict):
        for name, value in ours.items():
            if name in theirs and f"{key}.{name}" not in DEVIATIONS:
                compare(value, theirs[name], f"{key}.{name}")
    elif isinstance(ours, list) and isinstance(ours[0], dict):
        for one, their_one in zip(ours, theirs, strict=True):
            compare(one, their_one, key)
    else:
        assert ours == (pytest.approx(theirs) if isinstance(ours, float) else theirs), key


PIPELINE = OmegaConf.create(
    {
        "rrc": {"enabled": True, "crop_min_scale": 0.2, "crop_max_scale": 1.0},
        "color_jitter": {
            "prob": 0.8,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.2,
            "hue": 0.1,
        },
        "grayscale": {"prob": 0.2},
        "gaussian_blur": {"prob": 0.5},
        "solarization": {"prob": 0.3},
        "equalization": {"prob": 0.3},
        "horizontal_flip": {"prob": 0.5},
        "crop_size": 20,
        "num_crops": 1,
    }
)


def photograph() -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg")[100:164, 100:180])


@pytest.mark.solo_learn
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "stl10", "imagenet", "custom"])
@pytest.mark.parametrize("rrc", [True, False])
def test_pipelines_are_solo_learns(dataset: str, rrc: bool) -> None:
    import random

    cfg = copy.deepcopy(PIPELINE)
    cfg.rrc.enabled = rrc
    theirs = import_module("solo.data.pretrain_dataloader").build_transform_pipeline
    known = PROPERTIES[dataset]
    ours: Any = OmegaConf.merge(cfg, {"mean": list(known.mean), "std": list(known.std)})
    results = []
    for build, given in ((build_transform_pipeline, ours), (theirs, cfg)):
        pipeline = build(dataset, given)
        torch.manual_seed(3)
        random.seed(3)
        results.append(torch.stack([pipeline(photograph()).sum() for _ in range(30)]))
    torch.testing.assert_close(*results)


def test_pipeline_switches() -> None:
    cfg = copy.deepcopy(PIPELINE)
    for name in ("color_jitter", "grayscale", "gaussian_blur", "solarization", "equalization"):
        cfg[name].prob = 0.0
    cfg.horizontal_flip.prob = 0.0
    cfg.rrc.enabled = False
    cfg.crop_size = [20, 24]
    first, second = (build_transform_pipeline("cifar10", cfg)(photograph()) for _ in range(2))
    assert first.shape == (3, 20, 24)
    assert first.equal(second)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny", "swin_tiny", "convnext_tiny"])
def test_backbones_forward(name: str) -> None:
    cfg = OmegaConf.create(
        {"backbone": {"name": name, "kwargs": {}}, "data": {"dataset": "imagenet"}}
    )
    if name == "vit_tiny":
        cfg.backbone.kwargs = {"img_size": 32, "patch_size": 8}
    backbone, width = build_backbone(BACKBONES, cfg, "mixbt")
    size = 224 if name == "swin_tiny" else 32
    assert backbone.eval()(torch.zeros(2, 3, size, size)).shape == (2, width)


def test_cifar_stem() -> None:
    cfg = OmegaConf.create(
        {"backbone": {"name": "resnet18", "kwargs": {}}, "data": {"dataset": "cifar10"}}
    )
    backbone: Any = build_backbone(BACKBONES, cfg, None)[0]
    assert backbone.conv1.weight.shape == (64, 3, 3, 3)
    assert (backbone.conv1.stride, backbone.conv1.padding) == ((1, 1), (2, 2))
    assert isinstance(backbone.maxpool, nn.Identity)


@pytest.mark.parametrize("name", ["poolformer_s12", "wide_resnet28w2"])
def test_solo_learns_own_backbones_are_refused(name: str) -> None:
    cfg = OmegaConf.create({"backbone": {"name": name, "kwargs": {}}, "data": {"dataset": "x"}})
    with pytest.raises(ValueError, match="Install solo-learn to use them"):
        build_backbone(BACKBONES, cfg, None)


def test_unknown_backbone() -> None:
    cfg = OmegaConf.create({"backbone": {"name": "resnet19", "kwargs": {}}, "data": {}})
    with pytest.raises(ValueError, match="backbone.name='resnet19' is not known"):
        build_backbone(BACKBONES, cfg, None)


@pytest.mark.solo_learn
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet50",
        *("vit_tiny", "vit_small", "vit_base"),
        *("swin_tiny", "swin_small", "swin_base"),
        *("convnext_tiny", "convnext_small", "convnext_base"),
    ],
)
def test_backbones_have_solo_learns_parameters(name: str) -> None:
    base_method = import_module("solo.methods.base").BaseMethod
    cfg = OmegaConf.create(
        {"backbone": {"name": name, "kwargs": {}}, "data": {"dataset": "cifar10"}}
    )
    with torch.device("meta"):
        theirs, their_width = build_backbone(base_method._BACKBONES, cfg, "mixbt")
        ours, our_width = build_backbone(BACKBONES, cfg, "mixbt")
    shapes = [
        {key: tuple(value.shape) for key, value in network.state_dict().items()}
        for network in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert our_width == their_width


def test_dali_is_refused() -> None:
    with pytest.raises(ValueError, match="data.format='dali' goes through solo-learn's own load"):
        dali_loaders()
