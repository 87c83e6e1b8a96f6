"""The projectors of the papers."""

from __future__ import annotations

import torch
from torch import nn

from mixbt_plugin.methods.projector import build_projector


def shapes(projector: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in projector.named_parameters()}


def test_solo_learns_three_layers() -> None:
    assert shapes(build_projector(5, 6, 7)) == {
        "0.weight": (6, 5),
        "0.bias": (6,),
        "1.weight": (6,),
        "1.bias": (6,),
        "3.weight": (6, 6),
        "3.bias": (6,),
        "4.weight": (6,),
        "4.bias": (6,),
        "6.weight": (7, 6),
        "6.bias": (7,),
    }


def test_mix_bts_two_layers() -> None:
    projector = build_projector(2048, 512, 1024, num_layers=2, hidden_bias=False)
    assert shapes(projector) == {
        "0.weight": (512, 2048),
        "1.weight": (512,),
        "1.bias": (512,),
        "3.weight": (1024, 512),
        "3.bias": (1024,),
    }
    assert sum(p.numel() for p in projector.parameters()) == 1_574_912


def test_barlow_twins_has_no_biases() -> None:
    projector = build_projector(4, 8, 8, hidden_bias=False, output_bias=False)
    linear = [module for module in projector if isinstance(module, nn.Linear)]
    assert [module.bias for module in linear] == [None] * 3


def test_one_layer_is_linear() -> None:
    projector = build_projector(4, 9, 3, num_layers=1)
    assert projector(torch.zeros(2, 4)).shape == (2, 3)
    assert len(projector) == 1
