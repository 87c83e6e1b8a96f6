"""Sums and gathers over the processes of a distributed run, with the gradients they owe.

`DistributedDataParallel` averages parameter gradients over the processes. A loss whose *value*
is the same on every process therefore has to send back ``world_size`` times its gradient for its
own rows: the average is then the gradient that one process with the whole batch computes.

Two ways are offered by name:

- ``"exact"``: statistics of the global batch and that factor, so that k processes train as one;
- ``"legacy"``: what solo-learn, Barlow Twins' and Mixed Barlow Twins' official codes do: statistics
  of the local batch, and an ``all_reduce`` that autograd does not see, which makes the gradient
  ``1 / world_size`` of the true one.

Each process must hold the same number of rows.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

Ddp = Literal["exact", "legacy"]
ddp_choices: tuple[Ddp, ...] = ("exact", "legacy")


def world_size() -> int:
    """Number of processes of the running group, 1 outside of one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(z: Tensor) -> Tensor:
    """Rows of all processes, in rank order, (N, D) to (world_size · N, D), without a gradient."""
    if world_size() == 1:
        return z.detach()
    rows = [torch.empty_like(z) for _ in range(world_size())]
    dist.all_gather(rows, z.detach().contiguous())
    return torch.cat(rows)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def total(x: Tensor, ddp: Ddp = "exact") -> Tensor:
    """Sum over the processes of a term of the loss, which every process then uses alike.

    Args:
        x: this process's share, any shape, the same on all.
        ddp: ``"exact"`` sends ``world_size`` times the gradient back, ``"legacy"`` once.

    Returns:
        The sum, of the shape of ``x``.
    """
    if world_size() == 1:
        return x
    return _Total.apply(x, world_size() if ddp == "exact" else 1)


class _SharedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad


def shared_sum(x: Tensor) -> Tensor:
    """Sum over the processes of a statistic that each process then applies to its own rows.

    Unlike in `total`, the gradients that come back differ between the processes and are summed.
    """
    return x if world_size() == 1 else _SharedSum.apply(x)
