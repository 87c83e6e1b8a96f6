"""Processes of one group on this machine, of which the first says what was found."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch.distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import spawn

PROCESSES = 2


def of_first_rank(measure: Callable[..., Any], *args: Any) -> Any:
    """Calls ``measure(rank, join, *args)`` in `PROCESSES` gloo processes; gives the first's result.

    Args:
        measure: at the top of its module; calls ``join()`` to become one of the group.
        args: handed on.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    results = multiprocessing.get_context("spawn").SimpleQueue()
    spawn(_run, args=(address, measure, args, results), nprocs=PROCESSES)
    return results.get()


def _run(
    rank: int,
    address: str,
    measure: Callable[..., Any],
    args: tuple[Any, ...],
    results: SimpleQueue[Any],
) -> None:
    def join() -> None:
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)

    found = measure(rank, join, *args)
    if rank == 0:
        results.put(found)
    dist.barrier()
    # With torch 2.5 destroying the group can wait for ever: Gloo's threads free the last tensors
    # and need Python's lock, which is held meanwhile. Nothing is left to be cleaned up.
    os._exit(0)
