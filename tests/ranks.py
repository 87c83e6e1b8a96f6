"""Processes that each save what they found."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn


def saved_by_ranks(
    run_rank: Callable[[int, int, str], None], folder: Path, count: int
) -> list[Any]:
    """Runs ``run_rank(rank, port, folder)`` in processes; gives what each saved, rank by rank.

    Args:
        run_rank: at the top of its module; saves ``<folder>/<rank>.pt``.
        folder: an empty one.
        count: of processes.

    Returns:
        What was saved, as many as processes.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    spawn(run_rank, args=(port, str(folder)), nprocs=count)
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]
