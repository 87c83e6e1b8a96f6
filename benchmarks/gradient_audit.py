"""Is the gradient of two processes that of one? ``python -m benchmarks.gradient_audit``.

A small network is given a batch by one process, and half of it by each of two that average their
gradients, as DDP does. Ours beside what else is installed: lightly, solo-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from benchmarks.interleaved import machine, table
from benchmarks.ranks import PROCESSES, of_first_rank
from mixbt_plugin.functional import Ddp
from mixbt_plugin.losses import barlow_twins_loss

ROWS, DIM = 128, 256
Loss = Callable[[Tensor, Tensor], Tensor]


def losses() -> dict[str, Loss]:
    """Barlow Twins of each package that is there."""
    found: dict[str, Loss] = {
        f"mixbt_plugin, ddp={ddp}": partial(_ours, ddp) for ddp in get_args(Ddp)
    }
    with suppress(ImportError):
        lightly = import_module("lightly.loss").BarlowTwinsLoss
        name = f"lightly {version('lightly')}"
        found[name] = lightly()
        found[f"{name}, gather_distributed=True"] = lightly(gather_distributed=True)
    with suppress(ImportError):
        found["solo-learn"] = import_module("solo.losses.barlow").barlow_loss_func
    return found


def _ours(ddp: Ddp, z_a: Tensor, z_b: Tensor) -> Tensor:
    return barlow_twins_loss(z_a, z_b, ddp=ddp).loss


def gradient(loss: Loss, rank: int, count: int) -> Tensor:
    """Of the network's weights, averaged over the processes, each with its share of the rows."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(ROWS, 64, generator=generator)
    views = [images + 0.5 * torch.randn(ROWS, 64, generator=generator) for _ in range(2)]
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, DIM))
    loss(*(network(view.chunk(count)[rank]) for view in views)).backward()
    found = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    if count > 1:
        dist.all_reduce(found)
    return found / count


def audit(rank: int, join: Callable[[], None]) -> list[list[object]]:
    """What each loss gives, beside what it gives one process."""
    expected = {name: gradient(loss, 0, 1) for name, loss in losses().items()}
    join()
    rows: list[list[object]] = []
    for name, loss in losses().items():
        found, right = gradient(loss, rank, PROCESSES), expected[name]
        rows.append(
            [
                name,
                f"{100 * float((found - right).norm() / right.norm()):.2g} %",
                f"{float(found.norm() / right.norm()):.3f}",
                f"{float(torch.cosine_similarity(found, right, dim=0)):.4f}",
            ]
        )
    return rows


def main() -> None:
    """The command."""
    rows = of_first_rank(audit)
    print(f"{machine()}. Gradient of {PROCESSES} processes with {ROWS // PROCESSES} rows each")
    print(f"against that of one process with {ROWS}, D = {DIM}.\n")
    print(table(("Barlow Twins of", "difference", "length", "cosine"), rows))


if __name__ == "__main__":
    main()
