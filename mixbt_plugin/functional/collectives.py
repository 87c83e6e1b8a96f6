"""Sums and exchanges over the processes of a distributed run, with the gradients they owe.

Four ways are offered by name. `DistributedDataParallel` averages parameter gradients over the W
processes in each:

- ``"exact"``: statistics of the global batch, and a gradient of W times the loss, so that after
  the average k processes train as one process with the whole batch;
- ``"legacy"``: what solo-learn and Mixed Barlow Twins' official code do: statistics of the local
  batch, and an ``all_reduce`` that autograd does not see, so that the averaged gradient is 1 / W
  of the true one;
- ``"legacy-sync"``: what Barlow Twins' official code does (facebookresearch/barlowtwins main.py:89
  and 205-216): that gradient of 1 / W, but statistics of the global batch (``SyncBatchNorm``);
- ``"local"``: each process has the loss of its own rows, as if it were the only one, as in
  fastssl's distributed runs.

`torch.distributed.nn.functional` has such collectives too, but is deprecated from PyTorch 2.14 on
in favour of a private module; and the gradient of its ``all_reduce`` is reduced once more, though
all processes hold the same: for a loss that doubles what Gram matrices cost to send.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

Ddp = Literal["exact", "legacy", "legacy-sync", "local"]
ddp_choices: tuple[Ddp, ...] = ("exact", "legacy", "legacy-sync", "local")


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

    def total(self, x: Tensor) -> Tensor:
        """Sum over the processes of a term of the loss, which all of them then use alike."""
        return x if self.size == 1 else _Total.apply(x, self)

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

    @contextmanager
    def refusing_together(self, z: Any) -> Iterator[None]:
        """What one process refuses inside, all refuse; as they do batches of different shapes.

        On an accelerator, where comparing makes a step wait, only the first call of a group does.

        Args:
            z: the first of the embeddings, whose shape is compared.

        Raises:
            TypeError, ValueError: what was raised inside.
            ValueError: something was raised in another process, or the shapes differ.
        """
        problem: Exception | None = None
        try:
            yield
        except (TypeError, ValueError) as error:
            problem = error
        if self.size > 1 and self._compares(z):
            found: list[Any] = [None] * self.size
            mine = str(problem) if problem else tuple(z.shape)
            dist.all_gather_object(found, mine, group=self.group)
            problem = problem or _disagreement(found)
        if problem is not None:
            raise problem

    def _compares(self, z: Any) -> bool:
        if getattr(z, "device", torch.device("cpu")).type == "cpu":
            return True
        first = (group := self.group or dist.group.WORLD) not in _compared
        _compared.add(group)
        return first


_compared: WeakSet[Any] = WeakSet()
"""Groups on an accelerator whose first call has been: nothing else remembers it for us."""


def _disagreement(found: Sequence[Any]) -> ValueError | None:
    for rank, one in enumerate(found):
        if isinstance(one, str):
            return ValueError(f"process {rank} of the group: {one}")
    rows, dimensions = zip(*found)
    if len(set(rows)) > 1:
        return ValueError(
            f"the processes hold {', '.join(map(str, rows))} rows: expected as many on each. Drop "
            "the incomplete last batch (drop_last=True), or fill it up."
        )
    if len(set(dimensions)) > 1:
        held = ", ".join(map(str, dimensions))
        return ValueError(f"the processes hold embeddings of {held} dimensions: expected one.")
    return None


class _Total(torch.autograd.Function):
    """Differentiated a second time it raises, here and below: over processes that is not right."""

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
    return processes.total(x.detach()) / processes.size
