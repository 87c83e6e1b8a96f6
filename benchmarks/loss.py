"""Forward and backward of each objective: ours, the official codes' dense way, six products.

``python -m benchmarks.loss --n 256 --d 1024 4096`` prints a table; see README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import dense
from benchmarks.interleaved import interleave, machine, peak_memory, ratio, table
from mixbt_plugin.functional.batch import gram_is_cheaper
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
Row = dict[str, Any]
HEADER = (
    *("objective", "N", "D", "ours ms", "six products ms", "ours / six"),
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
        products: D x D products of the official way, forward and backward.
        matrices: D x D matrices that it holds at once, about.
        energies: the pairs of batches, for the rule of ``impl="auto"``.
        solo_learn: name of its function in ``solo.losses``.
    """

    views: int
    ours: Callable[..., Any]
    official: Callable[..., Tensor]
    products: int
    matrices: int
    energies: Sequence[tuple[int, int]]
    solo_learn: str | None = None


OBJECTIVES = {
    "mixbt": Objective(
        3,
        lambda z, perm, **kwargs: mixed(*z, perm=perm, mix=0.3, lamb_reg=4.0, **kwargs),
        dense.mixbt,
        21,
        9,
        [(0, 1), (3, 0), (3, 1)],
    ),
    "barlow_twins": Objective(
        2,
        lambda z, perm, **kwargs: barlow_twins_loss(*z, **kwargs),
        dense.barlow_twins,
        3,
        5,
        [(0, 1)],
        "barlow_loss_func",
    ),
    "hsic_ssl": Objective(
        2,
        lambda z, perm, **kwargs: hsic(*z, lamb=dense.LAMB, **kwargs),
        dense.hsic_ssl,
        3,
        5,
        [(0, 1)],
    ),
    "multiaug_barlow_twins": Objective(
        4,
        lambda z, perm, **kwargs: multiview(z, pairing="mean", pooled=True, **kwargs),
        dense.multiaug_barlow_twins,
        3,
        5,
        [(4, 4)],
    ),
    "multiaug_vicreg": Objective(
        2,
        lambda z, perm, **kwargs: multiview_vicreg_loss(z, **kwargs),
        dense.vicreg,
        6,
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


def step(loss: Callable[..., Any], views: Sequence[Tensor], **settings: Any) -> None:
    """Forward and backward."""
    for z in views:
        z.grad = None
    result = loss(views, **settings)
    getattr(result, "loss", result).backward()


def measure(name: str, n: int, d: int, args: argparse.Namespace) -> Row:
    """Times one objective at one size, in all ways that the limits allow."""
    objective = OBJECTIVES[name]
    views = [
        torch.randn(n, d, device=args.device, requires_grad=True) for _ in range(objective.views)
    ]
    perm = torch.randperm(n, device=args.device)
    side = "gram" if gram_is_cheaper(n, d, objective.energies) else "dense"
    other = "dense" if side == "gram" else "gram"

    def allowed(products: int, matrices: int) -> bool:
        operations = 2 * n * d * d * products
        return 4 * d * d * matrices <= args.gib * 2**30 and operations <= args.tera * 1e12

    ours = partial(step, objective.ours, views, perm=perm)
    official = partial(step, objective.official, views, perm=perm)
    alternatives: dict[str, Callable[[], object]] = {
        "ours": ours,
        "six products": six_products(views[0]),
    }
    dense_is_allowed = allowed(objective.products, objective.matrices)
    if dense_is_allowed:
        alternatives["official"] = official
    solo = solo_learn_function(objective.solo_learn)
    if solo and dense_is_allowed:
        alternatives["solo-learn"] = partial(step, lambda z: solo(*z), views)
    if other == "gram" or allowed(3 * len(objective.energies), 2 * len(objective.energies)):
        alternatives["other"] = partial(step, objective.ours, views, perm=perm, impl=other)
    how = {"rounds": args.rounds, "seconds": args.seconds, "device": args.device}
    times = interleave(alternatives, **how, warm=True)
    return {
        **{"objective": name, "n": n, "d": d, "side": side},
        "ms": {key: 1e3 * median(values) for key, values in times.items()},
        "to_ours": {key: ratio(values, times["ours"]) for key, values in times.items()},
        "mib": {
            key: peak_memory(call) / 2**20
            for key, call in (("ours", ours), ("official", official))
            if key in times
        },
    }


def row(found: Row) -> list[object]:
    """The cells of a measured size."""

    def of(values: dict[str, float], key: str, digits: int = 2) -> str:
        return f"{values[key]:.{digits}f}" if key in values else "-"

    ms, to_ours, mib = found["ms"], found["to_ours"], found["mib"]
    return [
        *(found["objective"], found["n"], found["d"], of(ms, "ours"), of(ms, "six products")),
        f"{1 / to_ours['six products']:.2f}",
        *(of(ms, "official"), of(to_ours, "official"), of(to_ours, "solo-learn")),
        *(found["side"], of(to_ours, "other"), of(mib, "ours", 1), of(mib, "official", 1)),
    ]


def six_products(like: Tensor) -> Callable[[], object]:
    """ZZᵀ of three batches and, as backward, GZ: what three Gram matrices cost at least.

    Mixed Barlow Twins has three, Barlow Twins and VICReg of two views have two, the loss of a
    mean view has one.
    """
    batches = [torch.randn_like(like) for _ in range(3)]
    weights = torch.randn(len(like), len(like), device=like.device, dtype=like.dtype)

    def products() -> list[Tensor]:
        for z in batches:
            torch.mm(z, z.T)
        return [torch.mm(weights, z) for z in batches]

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
    parser.add_argument("--rounds", type=int, default=3, help="at least")
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, for a size")
    parser.add_argument("--gib", type=float, default=4.0, help="skip dense ways that hold more")
    parser.add_argument("--tera", type=float, default=2.0, help="and those of more operations")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", type=Path, help="a line of JSON for each size; goes on there")
    args = parser.parse_args(arguments)
    print(machine("numpy", "solo-learn"), flush=True)
    rows = read(args.save) if args.save and args.save.exists() else []
    done = {(found["objective"], found["n"], found["d"]) for found in rows}
    for n, d, name in product(args.n, args.d, args.objectives):
        if (name, n, d) in done:
            continue
        torch.manual_seed(0)
        rows.append(measure(name, n, d, args))
        if args.save:
            with args.save.open("a", encoding="utf-8") as file:
                print(json.dumps(rows[-1]), file=file)
        print(*row(rows[-1]), flush=True)
    print(table(HEADER, map(row, rows)))


def read(path: Path) -> list[Row]:
    """What ``--save`` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
