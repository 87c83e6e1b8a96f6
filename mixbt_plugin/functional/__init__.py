"""What every objective here is made of.

For two standardised batches A, B of shape (N, D) with cross-correlation ``C = AᵀB / N``:

- the diagonal of C, the per-dimension product ``mean_n(A ∘ B)``;
- its energy ``‖C‖²_F``, which needs no D x D matrix.

`correlations` computes both.
"""

from mixbt_plugin.functional.collectives import (
    as_asked,
    ddp_choices,
    mean_over_processes,
    require_equal_rows,
    total,
)
from mixbt_plugin.functional.columns import Combination
from mixbt_plugin.functional.devices import send
from mixbt_plugin.functional.energy import Correlations, correlations, impl_choices
from mixbt_plugin.functional.precision import full_precision
from mixbt_plugin.functional.standardize import (
    Standardization,
    center,
    standardize,
    standardize_pooled,
)

__all__ = [
    "Combination",
    "Correlations",
    "Standardization",
    "as_asked",
    "center",
    "correlations",
    "ddp_choices",
    "full_precision",
    "impl_choices",
    "mean_over_processes",
    "require_equal_rows",
    "send",
    "standardize",
    "standardize_pooled",
    "total",
]
