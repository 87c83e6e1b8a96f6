"""What more views cost the losses, in turns: ``python -m benchmarks.loss_views``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import torch

from benchmarks.interleaved import interleave, machine, ratio, table
from benchmarks.loss import step
from mixbt_plugin.losses import multiview_barlow_twins_loss, multiview_vicreg_loss

LOSSES: dict[str, Callable[..., Any]] = {
    "multiaug_barlow_twins": multiview_barlow_twins_loss,
    "multiaug_vicreg": multiview_vicreg_loss,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--pairings", nargs="+", default=["all", "mean"])
    parser.add_argument("--n", nargs="+", type=int, default=[128, 256, 1024])
    parser.add_argument("--d", nargs="+", type=int, default=[256, 4096])
    parser.add_argument("--rounds", type=int, default=5, help="at least")
    parser.add_argument("--seconds", type=float, default=2.0, help="at least, for a size")
    args = parser.parse_args(arguments)
    print(machine())
    rows = []
    for name, pairing, n, d in product(LOSSES, args.pairings, args.n, args.d):
        torch.manual_seed(0)
        views = [torch.randn(n, d, requires_grad=True) for _ in range(max(args.views))]
        times = interleave(
            {str(v): partial(step, LOSSES[name], views[:v], pairing=pairing) for v in args.views},
            rounds=args.rounds,
            seconds=args.seconds,
            warm=True,
        )
        first, *others = times.values()
        cells = [f"{ratio(other, first):.2f}" for other in others]
        rows.append([name, pairing, n, d, f"{1e3 * median(first):.1f}", *cells])
    few, *more = args.views
    header = ["loss", "pairing", "N", "D", f"{few} views, ms", *(f"{v} / {few}" for v in more)]
    print(table(header, rows))


if __name__ == "__main__":
    main()
