"""The options of ``performance``, with every method: how fast it is, and not what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mixbt_plugin.apps.training import set_up
from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import list_methods, register
from tests.configs import batch, method_config

register()
every_method = pytest.mark.parametrize("method", [info.name for info in list_methods()])


def step(method: str, sizes: tuple[int, ...] = (16, 16), **performance: bool) -> tuple[Any, Any]:
    """The model, and loss and gradients of its first step, in float64."""
    torch.manual_seed(0)
    cfg = method_config(
        method,
        small=len(sizes) - 2,
        performance={"disable_channel_last": False, **performance},
    )
    model = set_up(METHODS[method](cfg), cfg).double()
    model.log_dict = lambda *args, **kwargs: None
    indexes, views, targets = batch(sizes)
    loss = model.training_step([indexes, [view.double() for view in views], targets], 0)
    loss.backward()
    return model, {"loss": loss.detach(), **{n: p.grad for n, p in model.named_parameters()}}


def assert_close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-8, atol=1e-8, msg=name)


def layouts(model: Any) -> set[bool]:
    """Whether the kernels of the 3 x 3 convolutions have their channels last."""
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    wide = [kernel for kernel in kernels if kernel.size(1) > 1 and kernel.size(-1) > 1]
    return {kernel.is_contiguous(memory_format=torch.channels_last) for kernel in wide}


@every_method
def test_channels_last_and_not(method: str) -> None:
    last, ours = step(method)
    first, theirs = step(method, disable_channel_last=True)
    assert (layouts(last), layouts(first)) == ({True}, {False})
    assert_close(ours, theirs)


@every_method
def test_compiled(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, by a backend that runs what was traced as it is; views of two sizes where allowed."""
    compiled = []

    def compile(module: nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile)
    sizes = (16, 16, 12) if method.startswith("multiaug") else (16, 16)
    _, theirs = step(method, sizes)
    model, ours = step(method, sizes, compile=True)
    assert compiled == [model.backbone, model.projector]
    assert_close(ours, theirs)
