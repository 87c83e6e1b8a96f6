"""Matrix products that keep the precision of their operands, whatever the caller has switched on.

The losses subtract numbers that nearly cancel. With products of 10 bits (TF32, which
`torch.set_float32_matmul_precision` allows, or autocast) their gradients are wrong by 0.1 to 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

SETTINGS: dict[str, Any] = {
    "cuda": torch.backends.cuda.matmul,
    "cpu": getattr(torch.backends.mkldnn, "matmul", None),
}
"""Where a device's precision is set, from PyTorch 2.9 on; before, there is one setting for all."""


LOWEST_BLOCK = {"cpu": 128, "cuda": 1024}
"""Rows of a product, at least: with fewer it slows down, and on a GPU takes no longer to compute
than to start."""


def product(a: Tensor, b: Tensor) -> Tensor:
    """AB of (N, K) and (K, M), and its derivatives of any order, in their own precision."""
    if torch.compiler.is_dynamo_compiling() and not is_exact(a.device.type):
        return torch.compiler.disable(_Product.apply)(a, b)  # Compiled code cannot change it.
    return _Product.apply(a, b)


def gram(z: Tensor) -> Tensor:
    """ZZᵀ of (N, K), as `product`; it is symmetric, and about half of it is computed."""
    if torch.compiler.is_dynamo_compiling() and not is_exact(z.device.type):
        return torch.compiler.disable(_Gram.apply)(z)
    return _Gram.apply(z)


def diagonal(a: Tensor, b: Tensor) -> Tensor:
    """The diagonal of AᵀB / N, (D,), of two batches (N, D)."""
    # Not the mean of the products: its gradient would be written out for every row.
    return (a * b).sum(dim=0) / len(a)


def computed_share(rows: int) -> float:
    """Which part of the entries of ZZᵀ, (rows, rows), a CPU computes and does not mirror."""
    return sum((stop - start) * stop for start, stop in _row_blocks(rows, "cpu")) / rows**2


def _row_blocks(rows: int, device_type: str) -> list[tuple[int, int]]:
    """Four blocks, of which 5/8 are computed, or as many as are not too low."""
    lowest = LOWEST_BLOCK.get(device_type, max(LOWEST_BLOCK.values()))
    height = max(lowest, -(-rows // 4))
    return [(start, min(start + height, rows)) for start in range(0, rows, height)]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with exact(a.device.type):
            return a @ b

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (a, b) = grads, ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return product(grad, b.T) if of_a else None, product(a.T, grad) if of_b else None


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        blocks = _row_blocks(len(z), z.device.type)
        with exact(z.device.type):
            if len(blocks) == 1:
                return z @ z.T
            gram = z.new_empty(len(z), len(z))
            for start, stop in blocks:
                gram[start:stop, :stop] = z[start:stop] @ z[:stop].T
                gram[:start, start:stop] = gram[start:stop, :start].T
        return gram

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,), (z,) = grads, ctx.saved_tensors
        # 2 GZ, G being symmetric, would be enough for a first derivative, and wrong for a second.
        return product(grad + grad.T, z)


@contextmanager
def exact(device_type: str) -> Iterator[None]:
    """Switches off what lets products round their operands: autocast, TF32, bfloat16."""
    if torch.compiler.is_compiling() or is_exact(device_type):
        with _no_autocast(device_type):
            yield
        return
    before = _precision(device_type)
    _set_precision(device_type, EXACT)
    try:
        with _no_autocast(device_type):
            yield
    finally:
        _set_precision(device_type, before)


# Dynamo compiles again where the setting has changed.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exact(device_type: str) -> bool:
    """Whether float32 products are float32 products, autocast aside."""
    return device_type not in SETTINGS or _precision(device_type) in ("ieee", "none", "highest")


def _no_autocast(device_type: str) -> Any:
    known = torch.amp.is_autocast_available(device_type)  # not so "meta"
    if not known or not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    EXACT = "ieee"

    def _precision(device_type: str) -> str:
        return SETTINGS[device_type].fp32_precision

    def _set_precision(device_type: str, precision: str) -> None:
        SETTINGS[device_type].fp32_precision = precision

else:
    EXACT = "highest"

    def _precision(device_type: str) -> str:
        return torch.get_float32_matmul_precision()

    def _set_precision(device_type: str, precision: str) -> None:
        torch.set_float32_matmul_precision(precision)
