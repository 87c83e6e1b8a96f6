"""Trains every method on its share of each batch, with synchronised batch-norm unless ``local``.

One process trains on whole batches; K processes train on 1 / K of them under Lightning's DDP.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.functional import Processes
from mixbt_plugin.functional.standardize import standardize
from mixbt_plugin.host import METHODS
from mixbt_plugin.keys import Numerics
from mixbt_plugin.mixing import Mixing
from mixbt_plugin.registry import register
from tests.configs import Batches, method_config
from tests.trainers import quiet_trainer

GLOBAL_BATCH = 16
STEPS = 3
METHOD_CASES: dict[str, tuple[dict[str, Any], int]] = {
    "mixbt": ({"lamb_reg": 4.0}, 2),
    "hsic_ssl": ({}, 2),
    "multiaug_barlow_twins": ({"pairing": "all"}, 3),
    "multiaug_mixbt": ({"lamb_reg": 2.0}, 3),
    "multiaug_vicreg": ({"pairing": "mean"}, 3),
}
PRECISIONS = {"64-true": (1e-10, STEPS), "32-true": (1e-5, 1)}
"""Relative differences that are allowed, and after how many steps: float32's rounding grows tenfold
a step on 16 images."""
DIMENSIONS = {"fewer rows than dimensions": 40, "more rows than dimensions": 6}


class SyncedBatchNorm(nn.Module):
    """Batch-norm over all processes; torch's own is for GPUs only."""

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = replaced.weight, replaced.bias, replaced.eps

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(1, -1).flatten(0, -2)
        processes = Processes.of(None, "exact")
        columns = [standardize(z, eps=self.eps) for z in processes.share_columns([rows])]
        (standardized,) = processes.share_rows(columns, rows.size(1))
        normalized = standardized * self.weight + self.bias
        return normalized.view(x.movedim(1, -1).shape).movedim(-1, 1)


def synchronize(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            setattr(module, name, SyncedBatchNorm(child))
        else:
            synchronize(child)


def draw_for(rank: int, world_size: int, processes: int) -> Any:
    """Mixing by blocks of rows r, r + K, …: the same for K processes and for one with all rows."""

    def draw(batch_size: int, batch_idx: int) -> Mixing:
        local = GLOBAL_BATCH // processes
        perm = torch.empty(GLOBAL_BATCH, dtype=torch.int64)
        coefficient = torch.empty(GLOBAL_BATCH)
        for r in range(processes):
            perm[r::processes] = r + processes * torch.arange(local).flip(0)
            coefficient[r::processes] = 0.3 + 0.1 * r
        if world_size == 1:
            return Mixing(coefficient, perm)
        return Mixing(coefficient[rank], torch.arange(local).flip(0))

    return draw


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        module = args[1]
        self.values.append(float(module.method_loss))


class Gradient(Callback):
    """The gradient of the first step, as one vector."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def on_before_optimizer_step(self, *args: Any) -> None:
        if self.value is None:
            grads = [p.grad.flatten() for p in args[1].parameters() if p.grad is not None]
            self.value = torch.cat(grads)


class Poison(Callback):
    """A NaN in an image of one process in the second step."""

    def on_train_batch_start(self, *args: Any) -> None:
        trainer, _, batch, batch_idx = args
        if batch_idx == 1 and trainer.global_rank == 1:
            batch[1][0][0, 0, 3, 3] = torch.nan


def train(
    method: str,
    dim: int,
    rank: int,
    world_size: int,
    processes: int,
    precision: Any = "64-true",
    poisoned: bool = False,
    local: bool = False,
) -> dict[str, Any]:
    """The losses of a few SGD steps, the weights after them and the first step's gradient.

    Args:
        method: of `METHOD_CASES`.
        dim: of the embeddings.
        rank: of this process.
        world_size: number of processes that train together.
        processes: number of processes whose mixing is drawn.
        precision: Lightning's.
        poisoned: with a NaN on one process, and a guard that skips the step.
        local: with ``ddp: local`` and batch-norm of each process; one process then trains on the
            share of ``rank`` alone.
    """
    kwargs, views = METHOD_CASES[method]
    shares = processes if local else world_size
    kwargs = {**kwargs, "ddp": "local" if local else "exact"}
    seed_everything(0)
    register()
    cfg = method_config(method, {**kwargs, "proj_output_dim": dim}, large=views)
    cfg.optimizer = {
        **cfg.optimizer,
        "name": "sgd",
        "lr": 0.1,
        "kwargs": {},
        "exclude_bias_n_norm_wd": False,
    }
    cfg.scheduler.name = "none"
    model: Any = METHODS[method](cfg)
    if not local:
        synchronize(model)
    model.draw_mixing = draw_for(rank, shares, processes)
    log_terms = model.log_terms

    def remember(terms: dict[str, Any]) -> None:
        model.method_loss = next(iter(terms.values())).detach()
        log_terms(terms)

    model.log_terms = remember
    logged: dict[str, list[float]] = {}
    log_dict = model.log_dict

    def listen(values: dict[str, Any], **how: Any) -> None:
        if not how["sync_dist"]:
            for name, value in values.items():
                logged.setdefault(name, []).append(float(value))
        log_dict(values, **how)

    model.log_dict = listen
    images = Batches(GLOBAL_BATCH * STEPS, [16] * views)
    share = Subset(images, range(rank, len(images), shares))
    losses, gradient = Losses(), Gradient()
    guard = NumericalGuard(Numerics(on_nonfinite="skip"), every_n_steps=50)
    trainer = quiet_trainer(
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
        max_steps=1 if local else PRECISIONS[precision][1],
        precision=precision,
        use_distributed_sampler=False,
        callbacks=[losses, gradient, *([Poison(), guard] if poisoned else [])],
    )
    trainer.fit(model, DataLoader(share, batch_size=GLOBAL_BATCH // shares))
    return {
        "losses": losses.values,
        "weights": dict(model.state_dict()),
        "gradient": gradient.value,
        "logged": logged,
        "skipped": guard.skipped,
    }


def train_all(rank: int, port: int, folder: str, world_size: int) -> None:
    """All cases, on one of ``world_size`` processes that are started at once."""
    # What a launcher says to Lightning.
    os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    results: dict[Any, Any] = {
        (method, dim, precision): train(method, dim, rank, world_size, world_size, precision)
        for method in METHOD_CASES
        for dim in DIMENSIONS.values()
        for precision in PRECISIONS
    }
    for method in METHOD_CASES:
        results["local", method] = train(method, 40, rank, world_size, world_size, local=True)
    results["poisoned"] = train("mixbt", 40, rank, world_size, world_size, poisoned=True)
    torch.save(results, Path(folder) / f"{rank}.pt")
