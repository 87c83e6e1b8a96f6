"""Training on the device: nothing waits, NaN is reported, a killed run goes on bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

for package in ("lightning", "omegaconf", "hydra", "pydantic", "timm", "torchvision"):
    pytest.importorskip(package)


from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.host import METHODS, dali_loaders
from mixbt_plugin.keys import Numerics
from mixbt_plugin.registry import list_methods, register
from tests.apps.test_numerics import Poison
from tests.configs import batch, loader, method_config
from tests.trainers import quiet_trainer

register()
NAMES = [info.name for info in list_methods()]


def on(device: torch.device) -> dict[str, Any]:
    return {"accelerator": "cpu" if device.type == "cpu" else "gpu", "devices": 1}


@contextmanager
def nothing_waits(device: torch.device) -> Iterator[None]:
    if device.type == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_make_the_host_wait(
    name: str, half: torch.dtype | None, device: torch.device
) -> None:
    with device:
        model: Any = METHODS[name](method_config(name))
    model.log_dict = lambda *_, **__: None
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    indexes, views, targets = batch()
    given = [indexes.to(device), [view.to(device) for view in views], targets.to(device)]

    def step(number: int) -> torch.Tensor:
        with torch.autocast(device.type, half, enabled=half is not None):
            loss: torch.Tensor = model.training_step(given, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step(0)  # what libraries set up may wait
    with nothing_waits(device):
        loss = step(1)
    assert loss.isfinite()


def fit(device: torch.device, precision: Any, *steps: int, batches: int = 128) -> None:
    """Trains on batches of 32 images, NaN in the embeddings of some steps."""
    cfg = method_config("mixbt")
    precision_plugin: Any = None
    if precision == "16-mixed" and device.type == "cpu":
        from lightning.pytorch.plugins import MixedPrecision

        scaler = torch.amp.GradScaler("cpu")
        precision, precision_plugin = None, [MixedPrecision("16-mixed", "cpu", scaler)]
    trainer = quiet_trainer(
        **on(device),
        precision=precision,
        plugins=precision_plugin,
        callbacks=[Poison("embeddings", steps=steps), NumericalGuard(Numerics(), every_n_steps=50)],
    )
    trainer.fit(METHODS["mixbt"](cfg), loader(batches))


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
@pytest.mark.parametrize("step", [1, 3], ids=["the second step", "the last step"])
def test_nan_stops_a_training(step: int, precision: str, device: torch.device) -> None:
    with pytest.raises(FloatingPointError, match=f"^step {step}\\b"):
        fit(device, precision, step)


def command(device: torch.device, folder: str, *overrides: str) -> list[str]:
    return [
        *(sys.executable, "-m", "mixbt_plugin.apps.pretrain"),
        *("--config-path", "pretrain/photo_patches", "--config-name", "mixbt"),
        *("max_epochs=4", "limit_train_batches=4", "limit_val_batches=1", "devices=1"),
        *("+backbone.kwargs.width=8", "optimizer.batch_size=64", "data.num_workers=1"),
        *(f"accelerator={on(device)['accelerator']}", "deterministic=true"),
        f"precision={'32' if device.type == 'cpu' else 'bf16-mixed'}",
        *("checkpoint.keep_prev=true", f"checkpoint.dir={folder}", *overrides),
    ]


@pytest.mark.parametrize("augment", ["image", "batch"])
def test_killed_and_resumed_is_bit_identical(augment: str, device: torch.device) -> None:
    for package in ("skimage", "sklearn"):
        pytest.importorskip(package)
    how = f"data.augment={augment}"
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    quiet: Any = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    whole = subprocess.run(command(device, "whole", how), **quiet)
    assert whole.returncode == 0, whole.stderr[-2000:]
    unread = {**quiet, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen(command(device, "killed", how), start_new_session=True, **unread)
    deadline = time.monotonic() + 120
    while not list(Path("killed").rglob("*-ep0.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not list(Path("killed").rglob("*-ep3.ckpt")), "it was not killed in time"
    resumed = subprocess.run(command(device, "killed", how, "resume_from_checkpoint=auto"), **quiet)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    states = []
    for folder in ("whole", "killed"):
        (path,) = Path(folder).rglob("*-ep3.ckpt")
        states.append(torch.load(path, map_location="cpu", weights_only=False)["state_dict"])
    ours, theirs = states
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_compiled_is_what_is_not_compiled(
    device: torch.device, figure: Callable[[str, float, float], None]
) -> None:
    if device.type == "cpu":
        pytest.skip("on the CPU it waits a minute for a C++ compiler: tests/apps/test_compile.py")
    from mixbt_plugin.apps.training import set_up

    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        cfg = method_config("mixbt", performance={"compile": compiled})
        model = set_up(METHODS["mixbt"](cfg), cfg).to(device)
        model.log_dict = lambda *_, **__: None
        indexes, views, targets = batch(n=32)
        given = [indexes.to(device), [view.to(device) for view in views], targets.to(device)]
        loss = model.training_step(given, 0)
        loss.backward()
        losses.append(float(loss))
    figure("difference of the loss", abs(losses[1] / losses[0] - 1), 1e-3)


def test_dali_trains(device: torch.device, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from mixbt_plugin.apps.pretrain import pretrain
    from tests.data_sets.test_dali import config
    from tests.images import image_folder

    if dali_loaders is None:
        pytest.skip("needs a solo-learn checkout on the import path")
    where = "cpu" if device.type == "cpu" else "gpu"
    images = image_folder(tmp_path / "images")
    pretrain(config(images, f"dali.device={where}", f"accelerator={where}"))
