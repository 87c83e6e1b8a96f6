"""The two quantities that every objective here is made of.

For two standardised batches A, B of shape (N, D) with cross-correlation ``C = AᵀB / N``:

- the diagonal of C, `diagonal(a, b)`, the per-dimension product ``mean_n(A ∘ B)``;
- its energy ``‖C‖²_F``, `Energy()(a, b)`, which needs no D x D matrix.
"""

from mixbt_plugin.functional.collectives import (
    ddp_choices,
    mean_over_processes,
    require_equal_rows,
    total,
)
from mixbt_plugin.functional.energy import Energy, diagonal, impl_choices
from mixbt_plugin.functional.precision import full_precision
from mixbt_plugin.functional.standardize import center, standardize, standardize_pooled

__all__ = [
    "Energy",
    "center",
    "ddp_choices",
    "diagonal",
    "full_precision",
    "impl_choices",
    "mean_over_processes",
    "require_equal_rows",
    "standardize",
    "standardize_pooled",
    "total",
]
