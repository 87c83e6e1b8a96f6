"""Losses against those of another checkout: ``python -m benchmarks.loss_against CHECKOUT``.

Both are called in turns on the same embeddings, on one thread, and timed by the processor time that
they take, which holds on a machine that is shared.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import torch

from benchmarks.interleaved import machine, table
from benchmarks.loss import OBJECTIVES, step

PACKAGE = "mixbt_plugin"


def losses_of(checkout: Path) -> Any:
    """The package ``mixbt_plugin.losses`` of another checkout, beside this one's."""
    here = _unload()
    sys.path.insert(0, str(checkout.resolve()))
    try:
        return importlib.import_module(f"{PACKAGE}.losses")
    finally:
        sys.path.pop(0)
        _unload()
        sys.modules.update(here)


def _unload() -> dict[str, Any]:
    names = [name for name in sys.modules if name.split(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


def objectives_of(losses: Any) -> dict[str, Callable[..., Any]]:
    """As `benchmarks.loss.OBJECTIVES` calls them, of another module."""
    official = {"unbiased": True, "eps": 0.0}
    views_mean = {"pairing": "mean", "pooled": True, **official}
    return {
        "mixbt": lambda z, perm: losses.mixed_barlow_twins_loss(
            *z, perm=perm, mix=0.3, lamb_reg=4.0, **official
        ),
        "barlow_twins": lambda z, perm: losses.barlow_twins_loss(*z),
        "hsic_ssl": lambda z, perm: losses.hsic_ssl_loss(*z, lamb=0.0051, **official),
        "multiaug_barlow_twins": lambda z, perm: losses.multiview_barlow_twins_loss(
            z, **views_mean
        ),
        "multiaug_vicreg": lambda z, perm: losses.multiview_vicreg_loss(z),
    }


def seconds(call: Callable[[], object]) -> float:
    """Processor time of a call, right after another that is not counted."""
    call()
    before = time.process_time()
    call()
    return time.process_time() - before


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="folder of the other checkout")
    parser.add_argument("--n", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--d", nargs="+", type=int, default=[1024, 4096, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine())
    other = objectives_of(losses_of(args.checkout))
    rows, ratios = [], []
    for name, n, d in product(OBJECTIVES, args.n, args.d):
        torch.manual_seed(0)
        views = [torch.randn(n, d, requires_grad=True) for _ in range(OBJECTIVES[name].views)]
        perm = torch.randperm(n)
        calls = [
            partial(step, way, views, perm=perm) for way in (OBJECTIVES[name].ours, other[name])
        ]
        taken = [[seconds(call) for call in calls] for _ in range(args.rounds)]
        ratios.append(median(ours / theirs for ours, theirs in taken))
        rows.append([name, n, d, f"{1e3 * median(t for t, _ in taken):.1f}", f"{ratios[-1]:.2f}"])
        print(*rows[-1], flush=True)
    print(table(["objective", "N", "D", "ms", "/ the other's"], rows))
    print(f"geometric mean {geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
