"""Two real gloo processes with different images against one process with all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from mixbt_plugin.diagnostics import Diagnostics
from tests.processes import saved_by_ranks

WORLD_SIZE = 2


def features() -> Tensor:
    """Views (N, V, D) whose halves differ: what a mean over processes would get wrong."""
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(40, 1, 24, generator=generator)
    z[20:] = 3 * z[20:] + 1
    return z + 0.3 * torch.randn(40, 2, 24, generator=generator)


def measure(views: Tensor) -> dict[str, float]:
    diagnostics = Diagnostics()
    for batch in views.split(8):
        diagnostics.update(batch)
    return {name: float(value) for name, value in diagnostics.compute().items()}


def run_rank(rank: int, port: int, folder: str, world_size: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.save(measure(features().chunk(WORLD_SIZE)[rank]), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_numbers_of_one(tmp_path: Path) -> None:
    found = saved_by_ranks(run_rank, tmp_path, WORLD_SIZE)
    alone = measure(features())
    assert alone["images"] == 40
    for measured in found:
        assert measured == pytest.approx(alone, rel=1e-10)


def test_the_number_of_batches_does_not_matter() -> None:
    diagnostics = Diagnostics()
    diagnostics.update(features())
    whole = {name: float(value) for name, value in diagnostics.compute().items()}
    assert measure(features()) == whole


def test_one_view_has_no_measure_that_compares_views() -> None:
    assert {"lidar", "alignment"}.isdisjoint(measure(features()[:, :1]))


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        Diagnostics().compute()
