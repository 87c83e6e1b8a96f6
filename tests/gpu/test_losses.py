"""The losses on the device against float64 on the CPU. Needs PyTorch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.embeddings import LOSSES, random_views, reversed_rows, value_and_gradient
from tests.gpu.conftest import DEVICE

SIZES = [(256, 8192), (1024, 1024), (4096, 256)]
LARGEST = (4096, 16384)
if DEVICE.type == "cpu":
    SIZES, LARGEST = [(32, 256), (96, 24)], (64, 512)
CASES = [(name, *size) for size in SIZES for name in LOSSES]
CASES += [(name, *LARGEST) for name in ("barlow_twins", "mixed_paper")]
HALVES = {"fp16 autocast": torch.float16, "bf16 autocast": torch.bfloat16}


@lru_cache(maxsize=1)
def expected(name: str, n: int, d: int) -> tuple[list[Tensor], Tensor, Tensor]:
    """Float32 embeddings, and value and gradient in float64; kept for the settings that follow."""
    count, loss = LOSSES[name]
    views = [z.detach().float() for z in random_views(count, n, d)]
    exact = [z.double().requires_grad_() for z in views]
    return views, *value_and_gradient(loss, exact)


@contextmanager
def switched_on(setting: str, device: torch.device) -> Iterator[None]:
    if setting == "TF32 allowed":
        torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast(device.type, HALVES.get(setting), enabled=setting in HALVES):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("setting", ["float32", "TF32 allowed", *HALVES])
@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("name,n,d", CASES)  # last: what is expected is kept for all the others
def test_value_and_gradient(
    name: str,
    n: int,
    d: int,
    impl: str,
    setting: str,
    device: torch.device,
    figure: Callable[[str, float, float], None],
) -> None:
    views, value, gradient = expected(name, n, d)
    kwargs: dict[str, Any] = {"impl": impl}
    if name.startswith("mixed"):
        kwargs["perm"] = reversed_rows(n).to(device)
    given = [z.to(device).requires_grad_() for z in views]
    with switched_on(setting, device):
        found = value_and_gradient(LOSSES[name][1], given, **kwargs)
    ours, ours_gradient = (x.double().cpu() for x in found)
    figure("error of the value", abs(float(ours / value - 1)), 1e-4)
    figure(
        "error of the gradient", float((ours_gradient - gradient).norm() / gradient.norm()), 1e-4
    )
