"""Sums and exchanges over the processes of a distributed run, with their gradients.

Four ways are offered by name. `DistributedDataParallel` averages parameter gradients over the W
processes in each:

- ``"exact"``: statistics of the global batch, and a gradient of W times the loss, so that after
  the average k processes train as one process with the whole batch;
- ``"legacy"``: what solo-learn and Mixed Barlow Twins' official code do: statistics of the local
  batch, and an ``all_reduce`` that autograd does not see, so that the averaged gradient is 1 / W
  of that of this loss;
- ``"legacy-sync"``: what Barlow Twins' official code does (facebookresearch/barlowtwins main.py:89
  and 205-216): that gradient of 1 / W, but statistics of the global batch (``SyncBatchNorm``);
- ``"local"``: each process has the loss of its own rows, as if it were the only one, as in
  fastssl's distributed runs.

`torch.distributed.nn.functional` has such collectives too, but is deprecated from PyTorch 2.14 on
in favour of a private module; and the gradient of its ``all_reduce`` is reduced once more, though
all processes hold the same: for a loss that doubles what Gram matrices cost to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Ddp = Literal["exact", "legacy", "legacy-sync", "local"]


@dataclass(frozen=True)
class Processes:
    """The processes whose rows are one batch, in rank order.

    Attributes:
        size: how many.
        rank: this one's number among them.
        group: of `torch.distributed`, None for all processes.
        gradient: factor of the gradient of what they sum up.
    """

    size: int = 1
    rank: int = 0
    group: Any = None
    gradient: int = 1

    @classmethod
    def of(cls, group: Any, ddp: Ddp) -> Processes:
        """Those of a group, None for all; this one alone outside of a run or with ``local``.

        Raises:
            ValueError: this process is not in the group.
        """
        if ddp == "local" or not (dist.is_available() and dist.is_initialized()):
            return cls()
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        if rank < 0:
            raise ValueError("group: this process is not in it; call the loss in its members only.")
        return cls(size, rank, group, size if ddp == "exact" else 1)

    def sum(self, x: Tensor) -> Tensor:
        """Sum over the processes of a term of the loss, which all of them then use alike."""
        return x if self.size == 1 else _Sum.apply(x, self)

    def gather_rows(self, x: Tensor) -> Tensor:
        """Rows of all processes, (N, …) to (size · N, …), without a gradient."""
        if self.size == 1:
            return x
        rows = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(rows, x.detach().contiguous(), group=self.group)
        return torch.cat(rows)

    def share_columns(self, views: Sequence[Tensor]) -> list[Tensor]:
        """From this process's rows (N, D) to its share of all rows' columns.

        What is then computed of whole columns is exact without further communication, and a
        process sends and receives no more than its own rows.

        Args:
            views: V tensors (N, D).

        Returns:
            V tensors (size · N, about D / size).
        """
        if self.size == 1:
            return list(views)
        stacked = torch.stack(list(views))
        sent = [part.flatten() for part in stacked.split(self.widths(stacked.size(2)), dim=2)]
        share = [len(sent[self.rank])] * self.size
        received = _Exchange.apply(torch.cat(sent), [len(part) for part in sent], share, self)
        by_process = received.view(self.size, *stacked.shape[:2], -1)
        return list(by_process.transpose(0, 1).flatten(1, 2))

    def share_rows(self, batches: Sequence[Tensor], dim: int) -> list[Tensor]:
        """From shares of columns back to this process's rows of all ``dim`` columns."""
        if self.size == 1:
            return list(batches)
        stacked = torch.stack(list(batches)).unflatten(1, (self.size, -1))
        count, _, rows, width = stacked.shape
        sizes = [count * rows * each for each in self.widths(dim)]
        sent = stacked.transpose(0, 1).flatten()
        received = _Exchange.apply(sent, [count * rows * width] * self.size, sizes, self)
        parts = [part.view(count, rows, -1) for part in received.split(sizes)]
        return list(torch.cat(parts, dim=2))

    def widths(self, dim: int) -> list[int]:
        """How many of ``dim`` columns each process has, 0 in some where it has fewer."""
        return [dim // self.size + (rank < dim % self.size) for rank in range(self.size)]


class _Sum(torch.autograd.Function):
    """``all_reduce``. As that of `_Exchange`, its gradient cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.factor = processes.gradient
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x, group=processes.group)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


class _Exchange(torch.autograd.Function):
    """``all_to_all``; the gradient takes the same way back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, sent: list[int], received: list[int], processes: Processes
    ) -> Tensor:
        ctx.arguments = received, sent, processes
        out = x.new_empty(sum(received))
        dist.all_to_all_single(out, x.contiguous(), received, sent, group=processes.group)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Exchange.apply(grads[0], *ctx.arguments), None, None, None


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean over the processes, without a gradient, of a tensor of one shape on all."""
    processes = Processes.of(None, "exact")
    return processes.sum(x.detach()) / processes.size
