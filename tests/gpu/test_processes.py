"""As many processes as GPUs, over NCCL, against one process with the whole batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.embeddings import LOSSES, random_views, reversed_rows, value_and_gradient
from tests.gpu.conftest import DEVICE
from tests.processes import saved_by_ranks

SIZES = ((64, 4096), (512, 64))
if DEVICE.type == "cpu":
    SIZES = ((8, 20), (24, 5))
PROCESSES = 2 if DEVICE.type == "cpu" else max(1, torch.cuda.device_count())


def permutation(n: int) -> torch.Tensor:
    """Reverses the rows inside each process's share."""
    return torch.cat([reversed_rows(n) + rank * n for rank in range(PROCESSES)])


def run_rank(rank: int, port: int, folder: str, world_size: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    device = torch.device(DEVICE.type, rank) if DEVICE.type == "cuda" else DEVICE
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=world_size)
    found: dict[Any, Any] = {}
    for name, (count, loss) in LOSSES.items():
        for n, d in SIZES:
            whole = random_views(count, n * PROCESSES, d)
            mine = [z.detach().chunk(PROCESSES)[rank].to(device).requires_grad_() for z in whole]
            kwargs = {"perm": reversed_rows(n).to(device)} if name.startswith("mixed") else {}
            value, gradient = value_and_gradient(loss, mine, **kwargs)
            found[name, n, d] = value.cpu(), gradient.cpu()
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    return saved_by_ranks(run_rank, tmp_path_factory.mktemp("ranks"), PROCESSES)


@pytest.mark.parametrize("n,d", SIZES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_that_of_the_whole_batch(
    name: str,
    n: int,
    d: int,
    results: list[dict[Any, Any]],
    figure: Callable[[str, float, float], None],
) -> None:
    """In float64. DistributedDataParallel averages, so that rows count 1 / processes."""
    count, loss = LOSSES[name]
    kwargs = {"perm": permutation(n)} if name.startswith("mixed") else {}
    value, gradient = value_and_gradient(loss, random_views(count, n * PROCESSES, d), **kwargs)
    ranks = [result[name, n, d] for result in results]
    ours = torch.cat([each for _, each in ranks], dim=1) / PROCESSES
    worst = max(abs(float(each / value - 1)) for each, _ in ranks)
    figure(f"error of the value, {PROCESSES} processes", worst, 1e-10)
    figure("error of the gradient", float((ours - gradient).norm() / gradient.norm()), 1e-10)
