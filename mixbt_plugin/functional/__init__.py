"""What every objective here is made of.

For two standardised batches A, B of shape (N, D) with cross-correlation ``C = AᵀB / N``:

- the diagonal of C, the per-dimension product ``mean_n(A ∘ B)``;
- its energy ``‖C‖²_F``, which needs no D x D matrix.
"""

from mixbt_plugin.functional.batch import GlobalBatch, Impl
from mixbt_plugin.functional.collectives import Ddp, Processes, mean_over_processes
from mixbt_plugin.functional.products import diagonal
from mixbt_plugin.functional.standardize import center, dead_columns, is_dead, widened

__all__ = [
    "Ddp",
    "GlobalBatch",
    "Impl",
    "Processes",
    "center",
    "dead_columns",
    "diagonal",
    "is_dead",
    "mean_over_processes",
    "widened",
]
