"""Training steps, forward and backward, on a pretended CUDA device: none makes the host wait.

Only tested as far as that goes; ``scripts/test_gpu.sh`` is for a real one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.data.batches import DrawnBatch
from mixbt_plugin.host import METHODS
from mixbt_plugin.keys import Numerics
from mixbt_plugin.mixing import draw_mixing, mix_images
from mixbt_plugin.registry import register
from mixbt_plugin.views import BatchAugmentation
from tests.configs import method_config
from tests.pretended_cuda import HostWaitsError, Watch, autocast, gradients, pretended_cuda
from tests.views.pipelines import EVERYTHING, settings

register()
pytestmark = pytest.mark.usefixtures("pretended_cuda")
__all__ = ["pretended_cuda"]


def watched_step(
    method: str, kwargs: dict[str, Any], views: int, half: torch.dtype | None
) -> tuple[dict[str, Any], int]:
    """What a training step logged, and how many tensors it sent to the device.

    Every parameter gets a gradient of its own type, and an optimiser takes them.
    """
    cfg = method_config(method, kwargs, large=2, small=views - 2)
    with torch.device("cuda:0"):
        model: Any = METHODS[method](cfg)
    logged: dict[str, Any] = {}
    model.log_dict = lambda values, **_: logged.update(values)
    images = [torch.empty(8, 3, 16, 16, device="cuda:0") for _ in range(views)]
    targets = torch.empty(8, dtype=torch.int64, device="cuda:0")
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    with Watch() as watch:
        with autocast(half):
            loss = model.training_step([targets, images, targets], 0)
        assert loss.is_cuda
        assert loss.dtype == torch.float32
        found = gradients(loss)
        for parameter in model.parameters():
            parameter.grad = found[parameter]
        optimizer.step()
    assert watch.products == {torch.float32, half or torch.float32}
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
@pytest.mark.parametrize("dimension,half", [(4, torch.float16), (48, torch.bfloat16)])
def test_a_step_does_not_wait(
    method: str,
    kwargs: dict[str, Any],
    views: int,
    sends: int,
    dimension: int,
    half: torch.dtype | None,
) -> None:
    logged, sent = watched_step(method, {**kwargs, "proj_output_dim": dimension}, views, half)
    assert len(logged) >= 6
    assert all(value.is_cuda for value in logged.values())
    assert sent == sends


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("per_sample", [False, True])
def test_mixed_images_do_not_wait(per_sample: bool, dtype: torch.dtype) -> None:
    images = torch.empty(8, 3, 16, 16, dtype=dtype, device="cuda:0")
    mixing = draw_mixing(8, per_sample=per_sample)
    with Watch() as watch:
        mixed = mix_images(images, images, mixing)
    assert mixed.is_cuda
    assert mixed.dtype == dtype
    assert watch.sent == 1 + per_sample


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
    with Watch() as watch:
        batch = DrawnBatch(indexes, images, drawn, indexes).computed(
            augmentation, torch.device("cuda:0")
        )
    views = batch[1]
    assert [tuple(view.shape) for view in views] == [(24, 3, size, size) for size in sizes]
    assert all(tensor.is_cuda for tensor in (batch[0], *views, batch[2]))
    assert watch.sent > 20


def test_the_numerical_guard_does_not_wait_between_logged_steps() -> None:
    cfg = method_config("mixbt")
    with torch.device("cuda:0"):
        model: Any = METHODS["mixbt"](cfg)
        images, targets = torch.empty(8, 3, 16, 16), torch.zeros(8, dtype=torch.int64)
    model.log_dict = lambda values, **_: None
    guard = NumericalGuard(Numerics(), every_n_steps=50)
    trainer: Any = SimpleNamespace(
        accumulate_grad_batches=1, precision_plugin=None, global_step=1, current_epoch=0
    )
    guard.on_fit_start(trainer, model)
    batch = [targets, [images, images], targets]
    with Watch():
        for trainer.global_step in (1, 2, 3):
            guard.on_train_batch_start(trainer, model, batch, trainer.global_step)
            loss = model.training_step(batch, trainer.global_step)
            guard.on_before_backward(trainer, model, loss)
            for parameter, grad in gradients(loss).items():
                parameter.grad = grad
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
    with Watch():
        for wait in waits:
            with pytest.raises(HostWaitsError):
                wait()
        for read in reads:
            with pytest.raises(DataDependentOutputException):
                read()
        assert host.pin_memory().to(x.device, non_blocking=True).is_cuda
