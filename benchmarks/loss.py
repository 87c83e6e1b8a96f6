"""Forward and backward of each objective: ours, the official codes' dense way, the bare products.

``python -m benchmarks.loss --n 256 --d 1024 4096`` prints a table; see README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import dense
from benchmarks.interleaved import interleave, machine, peak_memory, ratio, table
from mixbt_plugin.functional.energy import Pair, gram_is_cheaper
from mixbt_plugin.losses import (
    barlow_twins_loss,
    hsic_ssl_loss,
    mixed_barlow_twins_loss,
    multiview_barlow_twins_loss,
    multiview_vicreg_loss,
)

# With the official codes' standardisation.
mixed: Callable[..., Any] = partial(mixed_barlow_twins_loss, unbiased=True, eps=0.0)
hsic: Callable[..., Any] = partial(hsic_ssl_loss, unbiased=True, eps=0.0)
multiview: Callable[..., Any] = partial(multiview_barlow_twins_loss, unbiased=True, eps=0.0)
HEADER = (
    *("objective", "N", "D", "ours ms", "products ms", "ours / products"),
    *("official ms", "official / ours", "solo-learn / ours"),
    *("auto", "other / auto", "ours MiB", "official MiB"),
)


@dataclass(frozen=True)
class Objective:
    """How one objective is called in both ways.

    Attributes:
        views: how many.
        ours: of the views, with ``perm`` where it mixes.
        official: the same loss with D x D matrices.
        matrices: D x D matrices that the official way holds at once, about.
        energies: the pairs of batches, for the rule of ``impl="auto"``.
        solo_learn: name of its function in ``solo.losses``.
    """

    views: int
    ours: Callable[..., Any]
    official: Callable[..., Tensor]
    matrices: int
    energies: Sequence[Pair]
    solo_learn: str | None = None


OBJECTIVES = {
    "mixbt": Objective(
        3,
        lambda z, perm, **kwargs: mixed(*z, perm=perm, mix=0.3, lamb_reg=4.0, **kwargs),
        dense.mixbt,
        9,
        [(0, 1), (3, 0), (3, 1)],
    ),
    "barlow_twins": Objective(
        2,
        lambda z, perm, **kwargs: barlow_twins_loss(*z, **kwargs),
        dense.barlow_twins,
        5,
        [(0, 1)],
        "barlow_loss_func",
    ),
    "hsic_ssl": Objective(
        2,
        lambda z, perm, **kwargs: hsic(*z, lamb=dense.LAMB, **kwargs),
        dense.hsic_ssl,
        5,
        [(0, 1)],
    ),
    "multiaug_barlow_twins": Objective(
        4,
        lambda z, perm, **kwargs: multiview(z, pairing="mean", pooled=True, **kwargs),
        dense.multiaug_barlow_twins,
        5,
        [(4, 4)],
    ),
    "multiaug_vicreg": Objective(
        2,
        lambda z, perm, **kwargs: multiview_vicreg_loss(z, **kwargs),
        dense.vicreg,
        8,
        [(0, 0), (1, 1)],
        "vicreg_loss_func",
    ),
}


def solo_learn_function(name: str | None) -> Callable[..., Tensor] | None:
    """solo-learn's own loss, None where it has none or is not installed."""
    try:
        import solo.losses
    except ImportError:
        return None
    return getattr(solo.losses, name) if name else None


def measure(name: str, n: int, d: int, args: argparse.Namespace) -> list[object]:
    """One row of the table."""
    objective = OBJECTIVES[name]
    views = [
        torch.randn(n, d, device=args.device, requires_grad=True) for _ in range(objective.views)
    ]
    perm = torch.randperm(n, device=args.device)
    side = "gram" if gram_is_cheaper(n, d, objective.energies) else "dense"
    other = "dense" if side == "gram" else "gram"
    fits = 4 * d * d * objective.matrices <= args.gib * 2**30

    def step(loss: Callable[[], Any]) -> None:
        for z in views:
            z.grad = None
        result = loss()
        getattr(result, "loss", result).backward()

    ours = partial(step, lambda: objective.ours(views, perm=perm))
    official = partial(step, lambda: objective.official(views, perm=perm))
    alternatives: dict[str, Callable[[], object]] = {
        "ours": ours,
        "products": bare_products(
            views, len({batch for pair in objective.energies for batch in pair})
        ),
    }
    if fits:
        alternatives["official"] = official
        solo = solo_learn_function(objective.solo_learn)
        if solo:
            alternatives["solo-learn"] = partial(step, lambda: solo(*views))
    if fits or other == "gram":
        alternatives["other"] = partial(step, lambda: objective.ours(views, perm=perm, impl=other))
    times = interleave(alternatives, rounds=args.rounds, device=args.device)

    def milliseconds(key: str) -> str:
        return f"{median(times[key]) * 1e3:.2f}" if key in times else "-"

    def times_ours(key: str, to: str = "ours") -> str:
        return f"{ratio(times[key], times[to]):.2f}" if key in times else "-"

    memory = [
        f"{peak_memory(ours) / 2**20:.1f}",
        f"{peak_memory(official) / 2**20:.1f}" if fits else "-",
    ]
    return [
        *(name, n, d, milliseconds("ours"), milliseconds("products")),
        f"{ratio(times['ours'], times['products']):.2f}",
        *(milliseconds("official"), times_ours("official"), times_ours("solo-learn")),
        *(side, times_ours("other"), *memory),
    ]


def bare_products(views: Sequence[Tensor], batches: int) -> Callable[[], object]:
    """What the Gram side cannot do without: ZZᵀ and GZ of each batch, the N x D results kept."""
    plain = [torch.randn_like(views[0]) for _ in range(batches)]
    weights = torch.randn(len(views[0]), len(views[0]), device=views[0].device)

    def products() -> list[Tensor]:
        for z in plain:
            torch.mm(z, z.T)
        return [torch.mm(weights, z) for z in plain]

    return products


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--n", nargs="+", type=int, default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument(
        *("--d",),
        nargs="+",
        type=int,
        default=[128, 512, 1024, 2048, 4096, 8192, 16384, 32768],
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gib", type=float, default=4.0, help="skip dense ways that need more")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    print(machine("numpy", "solo-learn"), flush=True)
    rows = []
    for name, n, d in product(args.objectives, args.n, args.d):
        torch.manual_seed(0)
        rows.append(measure(name, n, d, args))
        print(*rows[-1], flush=True)
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
