"""Bytes that each process hands to the collectives in one forward and backward of a loss.

Two gloo processes on this machine; ``python -m benchmarks.communication --n 128 --d 2048``. Beside
it stands what reducing the official codes' D x D matrices hands over.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.interleaved import machine, table
from benchmarks.loss import OBJECTIVES
from benchmarks.ranks import of_first_rank

MATRICES = {"mixbt": 5, "multiaug_vicreg": 2}


class CountedBytes:
    """Counts what goes into `torch.distributed`'s collectives while it is entered."""

    collectives = ("all_reduce", "all_gather", "all_to_all_single")

    def __enter__(self) -> CountedBytes:
        self.bytes = self.calls = 0
        self._plain = {name: getattr(dist, name) for name in self.collectives}
        for name, plain in self._plain.items():
            setattr(dist, name, self._counted(name, plain))
        return self

    def __exit__(self, *_: object) -> None:
        for name, plain in self._plain.items():
            setattr(dist, name, plain)

    def _counted(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            given = args[0] if name == "all_reduce" else args[1]
            self.bytes += given.numel() * given.element_size()
            self.calls += 1
            return plain(*args, **kwargs)

        return counted


def count(rank: int, join: Callable[[], None], args: argparse.Namespace) -> list[list[object]]:
    """Counts of one process for every objective on both sides."""
    join()
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    rows: list[list[object]] = []
    for name in args.objectives:
        for d in args.d:
            objective = OBJECTIVES[name]
            views = [torch.randn(args.n, d, requires_grad=True) for _ in range(objective.views)]
            perm = torch.randperm(args.n)
            found: list[object] = []
            for impl in ("gram", "dense"):
                with CountedBytes() as counted:
                    objective.ours(views, perm=perm, impl=impl).loss.backward()
                found += [f"{counted.bytes / 2**20:.2f}", counted.calls]
            matrices = MATRICES.get(name, 1) * 4 * d * d / 2**20
            rows.append([name, args.n, d, *found, f"{matrices:.2f}"])
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--n", type=int, default=128, help="rows in each process")
    parser.add_argument("--d", nargs="+", type=int, default=[512, 2048, 8192])
    args = parser.parse_args(arguments)
    rows = of_first_rank(count, args)
    print(machine())
    header = ["objective", "N a process", "D", "gram MiB", "calls", "dense MiB", "calls"]
    print(table([*header, "official D x D MiB"], rows))


if __name__ == "__main__":
    main()
