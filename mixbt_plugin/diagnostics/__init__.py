"""Measures of features that need no labels."""

from mixbt_plugin.diagnostics.hypersphere import alignment, uniformity
from mixbt_plugin.diagnostics.lidar import lidar
from mixbt_plugin.diagnostics.metrics import Diagnostics
from mixbt_plugin.diagnostics.overfitting import Measured, Overfitting, overfitting
from mixbt_plugin.diagnostics.redundancy import dead_dimensions, off_diagonal_energy
from mixbt_plugin.diagnostics.spectrum import (
    PowerLaw,
    alpha_req,
    effective_rank,
    eigenvalues,
    fit_power_law,
    rank_me,
)

__all__ = [
    "Diagnostics",
    "Measured",
    "Overfitting",
    "PowerLaw",
    "alignment",
    "alpha_req",
    "dead_dimensions",
    "effective_rank",
    "eigenvalues",
    "fit_power_law",
    "lidar",
    "off_diagonal_energy",
    "overfitting",
    "rank_me",
    "uniformity",
]
