"""Sums and gathers over the processes of a distributed run, with the gradients they owe.

`DistributedDataParallel` averages parameter gradients over the processes. A loss whose *value*
is the same on every process therefore has to send back ``world_size`` times its gradient for its
own rows: the average is then the gradient that one process with the whole batch computes.

Two ways are offered by name:

- ``"exact"``: statistics of the global batch and that factor, so that k processes train as one;
- ``"legacy"``: what solo-learn, Barlow Twins' and Mixed Barlow Twins' official codes do: statistics
  of the local batch, and an ``all_reduce`` that autograd does not see, which makes the gradient
  ``1 / world_size`` of the true one.

Each process must hold the same number of rows; `require_equal_rows` says so where they do not.
"""

from __future__ import annotations

from typing import Any, Literal
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor

Ddp = Literal["exact", "legacy"]
ddp_choices: tuple[Ddp, ...] = ("exact", "legacy")


def world_size() -> int:
    """Number of processes of the running group, 1 outside of one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def require_equal_rows(rows: int, device: torch.device) -> None:
    """Refuses processes with different numbers of rows, on all of them.

    On an accelerator, where reading the numbers makes a step wait, only the first call of a group
    looks.

    Args:
        rows: of this process.
        device: of its tensors.

    Raises:
        ValueError: the numbers differ.
    """
    if world_size() == 1 or torch.compiler.is_compiling():
        return
    if device.type != "cpu":
        if dist.group.WORLD in _compared:
            return
        _compared.add(dist.group.WORLD)
    counts = torch.zeros(world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = rows
    dist.all_reduce(counts)
    found = counts.tolist()
    if len(set(found)) > 1:
        raise ValueError(
            f"the processes hold {', '.join(map(str, found))} rows: expected as many on each. Drop "
            "the incomplete last batch (drop_last=True), or fill it up."
        )


_compared: WeakSet[Any] = WeakSet()


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


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean over the processes, without a gradient, of a tensor of one shape on all."""
    if world_size() == 1:
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / world_size()
