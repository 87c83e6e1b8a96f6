"""No training step makes the host wait for an accelerator, on a pretended CUDA device.

PyTorch's fake tensors have a device and a shape but no values: whatever reads a value raises. What
copies between host and device is seen by a dispatch mode. Only tested as far as that goes; no GPU
was there.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.data.batches import DrawnBatch
from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import register
from mixbt_plugin.views import BatchAugmentation
from tests.configs import method_config
from tests.views.pipelines import EVERYTHING, settings

register()
aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)


class HostWaitsError(AssertionError):
    pass


class WatchCopies(TorchDispatchMode):
    """Raises where a copy between host and device is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: list[Tensor] = []
        self.sent = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._pin_memory.default:  # fake tensors cannot be pinned
            pinned = args[0].clone()
            self.pinned.append(pinned)
            return pinned
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        out = func(*args, **kwargs)
        if func in COPIES:
            source = args[-1 if func is aten.copy_.default else 0]
            if source.device != out.device:
                if not kwargs.get("non_blocking") or not any(source is x for x in self.pinned):
                    raise HostWaitsError(f"{func} from {source.device} to {out.device}")
                self.sent += 1
        elif any(x.is_cuda for x in tensors) and any(x.is_cpu and x.dim() for x in tensors):
            raise HostWaitsError(f"{func} of tensors on host and device")
        return out


@pytest.fixture(autouse=True)
def pretended_cuda() -> Iterator[None]:
    with FakeTensorMode():
        try:
            torch.nn.Linear(1, 1, device="cuda:0")
        except RuntimeError:
            pytest.skip("this PyTorch asks for a CUDA driver even for fake tensors")
        yield


def watched_step(method: str, kwargs: dict[str, Any], views: int) -> tuple[dict[str, Any], int]:
    """What a training step logged, and how many tensors it sent to the device."""
    cfg = method_config(method, kwargs, large=2, small=views - 2)
    with torch.device("cuda:0"):
        model: Any = METHODS[method](cfg)
    logged: dict[str, Any] = {}
    model.log_dict = lambda values, **_: logged.update(values)
    images = [torch.empty(8, 3, 16, 16, device="cuda:0") for _ in range(views)]
    targets = torch.empty(8, dtype=torch.int64, device="cuda:0")
    with WatchCopies() as watch:
        assert model.training_step([targets, images, targets], 0).is_cuda
    return logged, watch.sent


@pytest.mark.parametrize(
    "method,kwargs,views,sends",
    [
        ("mixbt", {}, 2, 1),
        ("mixbt", {"mix_per_sample": True, "target": "imagenet-code"}, 2, 2),
        ("mixbt", {"lamb_reg": 0.0, "normalize_output": True}, 2, 0),
        ("multiaug_barlow_twins", {}, 4, 0),
        ("multiaug_barlow_twins", {"pairing": "mean", "pooled": True}, 3, 0),
        ("multiaug_vicreg", {}, 4, 0),
        ("hsic_ssl", {"ddp": "legacy"}, 2, 0),
    ],
)
@pytest.mark.parametrize("dimension", [4, 48])
def test_a_step_does_not_wait(
    method: str, kwargs: dict[str, Any], views: int, sends: int, dimension: int
) -> None:
    logged, sent = watched_step(method, {**kwargs, "proj_output_dim": dimension}, views)
    assert len(logged) >= 6
    assert all(value.is_cuda for value in logged.values())
    assert sent == sends


def everything_drawn(augmentation: BatchAugmentation, size: int, n: int = 24) -> Any:
    """Views of which some undergo each operation."""
    return augmentation.draw([(size, size)] * n, np.random.default_rng(0))


@pytest.mark.parametrize("cropped", [False, True])
def test_views_of_a_batch_do_not_wait(cropped: bool) -> None:
    """``data.augment=batch``: the images, classes and parameters, and the views themselves."""
    augmentation = BatchAugmentation([settings(32, 2, **EVERYTHING), settings(16, 2)])
    drawn = everything_drawn(augmentation, 32)
    assert all(values.any() for values in drawn[0][7:])
    sizes = (32, 32, 16, 16)
    images: Any = [torch.empty(48, 3, size, size, dtype=torch.uint8) for size in (32, 16)]
    if not cropped:
        images = torch.empty(24, 3, 32, 32, dtype=torch.uint8)
    indexes = torch.arange(24)
    with WatchCopies() as watch:
        batch = DrawnBatch(indexes, images, drawn, indexes).computed(
            augmentation, torch.device("cuda:0")
        )
    views = batch[1]
    assert [tuple(view.shape) for view in views] == [(24, 3, size, size) for size in sizes]
    assert all(tensor.is_cuda for tensor in (batch[0], *views, batch[2]))
    assert watch.sent > 20


def test_the_numerical_guard_does_not_wait_between_logged_steps() -> None:
    """Gradients are made: the backward pass asks for a driver."""
    cfg = method_config("mixbt")
    with torch.device("cuda:0"):
        model: Any = METHODS["mixbt"](cfg)
        images, targets = torch.empty(8, 3, 16, 16), torch.zeros(8, dtype=torch.int64)
    model.log_dict = lambda values, **_: None
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    guard = NumericalGuard(cfg)
    trainer: Any = SimpleNamespace(
        accumulate_grad_batches=1, precision_plugin=None, global_step=1, current_epoch=0
    )
    guard.on_fit_start(trainer, model)
    batch = [targets, [images, images], targets]
    with WatchCopies():
        for trainer.global_step in (1, 2, 3):
            guard.on_train_batch_start(trainer, model, batch, trainer.global_step)
            loss = model.training_step(batch, trainer.global_step)
            guard.on_before_backward(trainer, model, loss)
            guard.on_before_optimizer_step(trainer, model, None)
            guard.on_train_batch_end(trainer, model)
        trainer.global_step = guard.every_n_steps
        with pytest.raises(DataDependentOutputException):
            guard.on_before_optimizer_step(trainer, model, None)
    guard.teardown(trainer, model, "fit")


def test_the_watch_sees_what_waits() -> None:
    x, host = torch.empty(3, device="cuda:0"), torch.empty(3, dtype=torch.int64)
    waits = (
        lambda: x.cpu(),
        lambda: host.to(x.device),
        lambda: host.to(x.device, non_blocking=True),  # not pinned
        lambda: x[host],
    )
    reads = (lambda: x.sum().item(), lambda: bool(x.isfinite().all()))
    with WatchCopies():
        for wait in waits:
            with pytest.raises(HostWaitsError):
                wait()
        for read in reads:
            with pytest.raises(DataDependentOutputException):
                read()
        assert host.pin_memory().to(x.device, non_blocking=True).is_cuda
