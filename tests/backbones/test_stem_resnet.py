"""The stems of the papers' recipes, on torchvision's ResNets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from mixbt_plugin.backbones import BACKBONES, stem_resnet18, stem_resnet50
from mixbt_plugin.host import BaseMethod, LinearModel, build_backbone
from mixbt_plugin.registry import register
from tests.configs import batch, method_config

register()
SMALL = {"stem": "3x3", "max_pool": False}
"""mix-bt's stem for 32-pixel images."""


def final_map(backbone: Any, size: int) -> tuple[int, ...]:
    maps: list[Any] = []
    backbone.layer4.register_forward_hook(lambda *call: maps.append(call[2]))
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, size, size))
    return tuple(maps[0].shape[2:])


@pytest.mark.parametrize(
    "kwargs,size,expected",
    [
        ({}, 224, 7),
        (SMALL, 32, 4),
        ({"stem": "3x3"}, 64, 4),
        ({**SMALL, "relu": False}, 64, 8),
        ({**SMALL, "relu": False}, 128, 16),
    ],
)
def test_final_maps_of_the_official_codes(kwargs: Any, size: int, expected: int) -> None:
    assert final_map(stem_resnet18(**kwargs), size) == (expected, expected)


@pytest.mark.parametrize("kwargs", [{}, SMALL, {**SMALL, "padding": 2, "relu": False}])
@pytest.mark.parametrize("depth", [18, 50])
def test_parameters_are_torchvisions(depth: int, kwargs: Any) -> None:
    with torch.device("meta"):
        ours = BACKBONES[f"stem_resnet{depth}"]("mixbt", **kwargs)
        theirs = getattr(torchvision.models, f"resnet{depth}")()
    expected = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    if "stem" in kwargs:
        expected["conv1.weight"] = torch.Size((64, 3, 3, 3))
    assert {k: v.shape for k, v in ours.state_dict().items()} == expected
    assert ours.num_features == theirs.fc.in_features


def test_the_plain_stem_is_torchvisions_and_the_relu_can_go() -> None:
    torch.manual_seed(0)
    ours = stem_resnet18().eval()
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs.eval()(images))
    without = stem_resnet18(relu=False).eval()
    without.load_state_dict(ours.state_dict())
    assert not torch.allclose(ours(images), without(images))


def test_solo_learns_cifar_stem_can_be_written_out() -> None:
    """So that a backbone that was trained on CIFAR can be evaluated on other data sets."""
    cfg = OmegaConf.create(
        {"backbone": {"name": "resnet18", "kwargs": {}}, "data": {"dataset": "cifar10"}}
    )
    theirs, _ = build_backbone(cfg, None)
    ours = stem_resnet18(stem="3x3", padding=2, max_pool=False)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_methods_and_linear_evaluation_keep_the_stem() -> None:
    """Whatever the data set is: solo-learn changes only backbones called ``resnet…``."""
    backbone = {"name": "stem_resnet18", "kwargs": SMALL}
    cfg = method_config("mixbt", backbone=backbone, data__dataset="cifar10")
    model: Any = BaseMethod(cfg)
    assert model.backbone.conv1.padding == (1, 1)
    assert model(batch()[1][0])["feats"].shape == (8, 512)
    cfg = method_config("mixbt", backbone=backbone, finetune=False)
    linear: Any = LinearModel(build_backbone(cfg, None)[0], cfg)
    assert linear.classifier.in_features == 512
    assert isinstance(linear.backbone.maxpool, nn.Identity)


def test_initialisation_of_the_convolutions() -> None:
    """PyTorch's is uniform within sqrt(1 / inputs), torchvision's normal by the outputs."""
    weight = stem_resnet18(init="pytorch").layer1[0].conv1.weight
    assert weight.abs().max() <= (3 * 3 * 64) ** -0.5
    weight = stem_resnet18().layer1[0].conv1.weight
    assert weight.abs().max() > 2 * (3 * 3 * 64) ** -0.5
    with pytest.raises(ValueError, match="backbone.kwargs.init='he': expected torchvision or"):
        stem_resnet18(init="he")


def test_unknown_stem_and_unknown_key() -> None:
    with pytest.raises(ValueError, match=r"backbone.kwargs.stem='5x5': expected one of 7x7, 3x3"):
        stem_resnet50(stem="5x5")
    with pytest.raises(TypeError, match="maxpool"):
        stem_resnet18(maxpool=False)
