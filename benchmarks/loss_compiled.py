"""What `torch.compile` makes of a whole loss: ``python -m benchmarks.loss_compiled``.

The Gram side stated plainly, with the gradient that autograd derives, as it is and compiled, in
turns with ours. Needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median

import torch
from torch import Tensor

from benchmarks.dense import LAMB, unbiased
from benchmarks.interleaved import interleave, machine, ratio, table
from benchmarks.loss import OBJECTIVES, step

HEADER = ("objective", "N", "D", "ours ms", "plain / ours", "compiled / ours", "compiling s")


def energy(gram_a: Tensor, gram_b: Tensor) -> Tensor:
    """``‖AᵀB‖²_F / N²`` of two Gram matrices."""
    return (gram_a * gram_b).sum() / len(gram_a) ** 2


def redundancy(a: Tensor, b: Tensor, gram_a: Tensor, gram_b: Tensor) -> Tensor:
    """``Σ (1 - C_ii)² + λ Σ_{i≠j} C_ij²``."""
    diagonal = (a * b).mean(dim=0)
    off_diagonal = energy(gram_a, gram_b) - diagonal.square().sum()
    return (1 - diagonal).square().sum() + LAMB * off_diagonal


def barlow_twins(views: Sequence[Tensor], **_: Tensor) -> Tensor:
    """Barlow Twins by two Gram matrices."""
    a, b = map(unbiased, views)
    return redundancy(a, b, a @ a.T, b @ b.T)


def mixbt(views: Sequence[Tensor], *, perm: Tensor, mix: float = 0.3) -> Tensor:
    """Mixed Barlow Twins by three Gram matrices."""
    a, b, m = map(unbiased, views)
    residual = m - mix * a - (1 - mix) * b[perm]
    gram_a, gram_b, gram_residual = a @ a.T, b @ b.T, residual @ residual.T
    regularizer = energy(gram_residual, gram_a + gram_b)
    return redundancy(a, b, gram_a, gram_b) + 4.0 * LAMB * regularizer


PLAIN: dict[str, Callable[..., Tensor]] = {"mixbt": mixbt, "barlow_twins": barlow_twins}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--d", nargs="+", type=int, default=[4096, 8192])
    parser.add_argument("--backend", default="inductor")
    parser.add_argument("--rounds", type=int, default=10, help="at least")
    parser.add_argument("--seconds", type=float, default=2.0, help="at least, for a size")
    args = parser.parse_args(arguments)
    print(machine())
    rows = []
    for name, n, d in product(PLAIN, args.n, args.d):
        torch.manual_seed(0)
        views = [torch.randn(n, d, requires_grad=True) for _ in range(OBJECTIVES[name].views)]
        perm = torch.randperm(n)
        torch.compiler.reset()
        compiled = torch.compile(PLAIN[name], backend=args.backend, dynamic=False)
        losses = {"ours": OBJECTIVES[name].ours, "plain": PLAIN[name], "compiled": compiled}
        steps = {key: partial(step, loss, views, perm=perm) for key, loss in losses.items()}
        start = time.perf_counter()
        steps["compiled"]()
        waited = time.perf_counter() - start
        times = interleave(steps, rounds=args.rounds, seconds=args.seconds, warm=True)
        ratios = [f"{ratio(times[key], times['ours']):.2f}" for key in ("plain", "compiled")]
        rows.append([name, n, d, f"{1e3 * median(times['ours']):.2f}", *ratios, f"{waited:.0f}"])
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
