"""Networks as the official codes name their parts, and what those codes save of them.

Built from descriptions of mix-bt (model.py, main_imagenet.py), Barlow-Twins-HSIC (model.py),
Barlow Twins (main.py) and fastssl (models/backbone.py, models/resnets.py); none of their files can
be had where the tests run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

CHILDREN_WITHOUT = {
    "mix-bt on CIFAR": ("maxpool", "fc"),
    "mix-bt on STL-10": ("fc",),
    "fastssl with torchvision's ResNet": ("maxpool", "fc"),
    "fastssl with its own ResNet": ("relu", "maxpool", "fc"),
}


def resnet(name: str) -> Any:
    """A ResNet whose batch-norms have statistics of their own, as after training."""
    generator = torch.Generator().manual_seed(3)
    network = getattr(torchvision.models, name)()
    for key, tensor in network.state_dict().items():
        if key.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif key.endswith("running_mean"):
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
    return network.eval()


def small_image_network(name: str, code: str) -> nn.Sequential:
    """A ResNet's children in a row, the first a 3 x 3 convolution with padding 1."""
    network = resnet(name)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    children = [
        module for child, module in network.named_children() if child not in CHILDREN_WITHOUT[code]
    ]
    return nn.Sequential(*children, nn.Flatten()).eval()


def projector(width: int, hidden: int = 64, output: int = 32) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, output),
    )


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def mix_bt(network: nn.Sequential, width: int) -> dict[str, Any]:
    """mix-bt's main.py and Barlow-Twins-HSIC's: the state dict itself, with thop's counters."""
    counters = {"f.total_ops": torch.zeros(1), "g.0.total_params": torch.zeros(1)}
    return {
        **prefixed("f.", network.state_dict()),
        **prefixed("g.", projector(width).state_dict()),
        **counters,
    }


def barlow_twins(network: nn.Module, width: int) -> dict[str, Any]:
    """checkpoint.pth of Barlow Twins' main.py and mix-bt's main_imagenet.py, written under DDP."""
    backbone = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    head = projector(width)
    state = {
        **prefixed("module.backbone.", backbone),
        **prefixed("module.projector.", head.state_dict()),
        **prefixed("module.bn.", nn.BatchNorm1d(32, affine=False).state_dict()),
    }
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1).state_dict()
    return {"epoch": 1000, "model": state, "optimizer": optimizer}


def fastssl(network: nn.Sequential, width: int, *, own: bool) -> dict[str, Any]:
    """fastssl's .pth; its own ResNet calls shortcut what torchvision's calls downsample."""
    feats = prefixed("backbone.feats.", network.state_dict())
    if own:
        feats = {key.replace("downsample", "shortcut"): value for key, value in feats.items()}
    head = projector(width)
    optimizer = torch.optim.Adam(head.parameters()).state_dict()
    state = {**feats, **prefixed("backbone.proj.", head.state_dict())}
    return {"epoch": 101, "model": state, "optimizer": optimizer}
