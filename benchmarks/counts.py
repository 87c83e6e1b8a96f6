"""Multiplications and bytes that the losses' operations need: ``python -m benchmarks.counts``.

Every operation of forward and backward is seen when it is dispatched: matrix products are counted
by their multiplications, all operations by the bytes of the tensors that they read and write.
What lies in a cache is counted as well. docs/scaling.md has the formulas.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.interleaved import table
from benchmarks.loss import OBJECTIVES

aten: Any = torch.ops.aten
PRODUCTS = {
    aten.mm.default: 0,
    aten.mm.out: 0,
    aten.bmm.default: 0,
    aten.addmm.default: 1,
    aten.addmm.out: 1,
    aten.addmm_.default: 1,
}
"""Operations that multiply matrices, and which argument is the first of them."""
ALLOCATIONS = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
"""Operations that take memory and neither read nor write."""
FILLS = {
    *(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default),
    *(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default),
}
"""Operations that write, and read nothing of the tensor whose kind they make."""
MOST_VIEWS = 8


class Counts(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        multiplications: of matrix products.
        bytes: read and written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiplications = self.bytes = 0

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function in PRODUCTS:
            first, second = args[PRODUCTS[function] : PRODUCTS[function] + 2]
            # What has fewer rows than a batch is a sum over columns or a combination of views.
            if first.size(-2) > MOST_VIEWS:
                self.multiplications += first.numel() * second.size(-1)
        if not function.is_view and function not in ALLOCATIONS:
            written = {id(x): x for x in tree_leaves((result, kwargs)) if isinstance(x, Tensor)}
            read = [x for x in _read(function, args, kwargs) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in (*written.values(), *read))
        return result


def _read(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that an operation reads."""
    if function in FILLS:
        return []
    # With beta=0 what a product could be added to is not read.
    first = PRODUCTS[function] if function in PRODUCTS and kwargs.get("beta") == 0 else 0
    return tree_leaves(args[first:])


def count(name: str, way: str, n: int, d: int) -> Counts:
    """Counts forward and backward of an objective.

    Args:
        name: of `OBJECTIVES`.
        way: ``"gram"`` or ``"dense"``, ours, or ``"official"``.
        n: rows.
        d: dimensions.
    """
    objective = OBJECTIVES[name]
    views = [torch.randn(n, d, requires_grad=True) for _ in range(objective.views)]
    perm = torch.randperm(n)
    with Counts() as counts:
        if way == "official":
            loss = objective.official(views, perm=perm)
        else:
            loss = objective.ours(views, perm=perm, impl=way).loss
        loss.backward()
    return counts


def coefficients(bytes_of: Mapping[tuple[int, int], int], gram: bool) -> tuple[float, float, float]:
    """Float32 numbers read and written, as ``α N D + β M²`` with M = N on the Gram side, else D.

    Args:
        bytes_of: what was counted, by (N, D).
        gram: which side.

    Returns:
        α, β, and the largest relative deviation of a count from the formula.
    """
    sizes = np.array([[n * d, n * n if gram else d * d] for n, d in bytes_of], dtype=float)
    numbers = np.array(list(bytes_of.values())) / 4
    found, *_ = np.linalg.lstsq(sizes / numbers[:, None], np.ones(len(numbers)), rcond=None)
    alpha, beta = found
    return float(alpha), float(beta), float(abs(sizes @ found / numbers - 1).max())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", nargs="+", type=int, default=[64, 128, 256])
    parser.add_argument("--d", nargs="+", type=int, default=[256, 384, 512])
    args = parser.parse_args(arguments)
    rows = []
    for name, way in product(OBJECTIVES, ("gram", "dense", "official")):
        counted = {(n, d): count(name, way, n, d) for n, d in product(args.n, args.d)}
        gram = way == "gram"
        products = [
            c.multiplications / (n * n * d if gram else n * d * d) for (n, d), c in counted.items()
        ]
        alpha, beta, off = coefficients({size: c.bytes for size, c in counted.items()}, gram)
        side = "N² D" if gram else "N D²"
        square = "N²" if gram else "D²"
        rows.append(
            [
                *(name, way, f"{min(products):.2f} to {max(products):.2f} {side}"),
                *(f"{alpha:.0f} N D + {beta:.0f} {square}", f"{100 * off:.0f} %"),
            ]
        )
    print(f"torch {torch.__version__}, N {args.n}, D {args.d}")
    print(
        table(["objective", "way", "multiplications", "numbers read and written", "off by"], rows)
    )


if __name__ == "__main__":
    main()
