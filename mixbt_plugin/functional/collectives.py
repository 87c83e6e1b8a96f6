"""Sums and gathers over the processes of a distributed run, with the gradients they owe.

`DistributedDataParallel` averages parameter gradients over the processes. A loss whose *value*
is the same on every process therefore has to send back ``world_size`` times its gradient for its
own rows: the average is then the gradient that one process with the whole batch computes.

Three ways are offered by name:

- ``"exact"``: statistics of the global batch and that factor, so that k processes train as one;
- ``"legacy"``: what solo-learn, Barlow Twins' and Mixed Barlow Twins' official codes do: statistics
  of the local batch, and an ``all_reduce`` that autograd does not see, which makes the gradient
  ``1 / world_size`` of the true one;
- ``"local"``: each process has the loss of its own rows, as if it were the only one, and
  `DistributedDataParallel` averages, as in fastssl's distributed runs. It is for whole losses,
  which `as_asked` wraps.

Each process must hold the same number of rows, but with ``"local"``; `require_equal_rows` says so
where they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Ddp = Literal["exact", "legacy", "local"]
ddp_choices: tuple[Ddp, ...] = ("exact", "legacy", "local")
_alone = ContextVar("_alone", default=False)


def world_size() -> int:
    """Number of processes of the running group, 1 outside of one, or within a local loss."""
    return dist.get_world_size() if _in_a_group() else 1


def _in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized() and not _alone.get()


def as_asked(loss: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Computes a loss with ``ddp="local"`` as ``"exact"`` in a group of this process alone."""

    @wraps(loss)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if kwargs.get("ddp") != "local":
            return loss(*args, **kwargs)
        kwargs["ddp"] = "exact"
        before = _alone.set(True)
        try:
            return loss(*args, **kwargs)
        finally:
            _alone.reset(before)

    return wrapper


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
    if world_size() == 1:
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


def rank() -> int:
    """This process's number in the running group, 0 outside of one, or within a local loss."""
    return dist.get_rank() if _in_a_group() else 0


def gather_rows(z: Tensor) -> Tensor:
    """Rows of all processes, in rank order, (N, D) to (world_size · N, D), without a gradient."""
    if world_size() == 1:
        return z.detach()
    rows = [torch.empty_like(z) for _ in range(world_size())]
    dist.all_gather(rows, z.detach().contiguous())
    return torch.cat(rows)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def total(x: Tensor) -> Tensor:
    """Sum over the processes of a term of the loss, which every process then uses alike."""
    return x if world_size() == 1 else _Total.apply(x)


class _SharedSum(_Total):
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


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factor: int, *views: Tensor) -> tuple[Tensor, ...]:
        ctx.factor = factor
        return tuple(z.view_as(z) for z in views)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(grad * ctx.factor for grad in grads)


def owed(views: Sequence[Tensor], ddp: Ddp) -> Sequence[Tensor]:
    """The views, whose gradients become what `DistributedDataParallel` shall average."""
    if world_size() == 1 or ddp != "exact":
        return views
    return _Scaled.apply(world_size(), *views)


class _ColumnShare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *views: Tensor) -> tuple[Tensor, ...]:
        rows, columns = views[0].shape
        widths = [len(part) for part in torch.arange(columns).tensor_split(world_size())]
        ctx.rows, ctx.widths = rows, widths
        sent = [torch.stack(part).flatten() for part in zip(*(z.split(widths, 1) for z in views))]
        width = widths[dist.get_rank()]
        received = views[0].new_empty(world_size() * len(views) * rows * width)
        dist.all_to_all_single(
            received, torch.cat(sent), None, [len(views) * rows * width for width in widths]
        )
        shares = received.view(world_size(), len(views), rows, width).transpose(0, 1)
        return tuple(shares.flatten(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        rows, widths = ctx.rows, ctx.widths
        sent = torch.stack(grads).unflatten(1, (world_size(), rows)).transpose(0, 1).flatten()
        sizes = [len(grads) * rows * width for width in widths]
        received = grads[0].new_empty(sum(sizes))
        dist.all_to_all_single(received, sent, sizes, None)
        shares = [
            part.view(len(grads), rows, width) for part, width in zip(received.split(sizes), widths)
        ]
        return tuple(torch.cat(shares, dim=2))


def share_columns(views: Sequence[Tensor]) -> Sequence[Tensor]:
    """This process's share of the columns, of the rows of all processes in rank order.

    What is then computed of whole columns is exact without further communication, and a process
    sends and receives no more than its own rows.

    Args:
        views: V tensors (N, D).

    Returns:
        V tensors (world_size · N, about D / world_size).
    """
    return views if world_size() == 1 else _ColumnShare.apply(*views)
