"""What others build on: a name that goes, or comes, is a decision, and changes this file."""

from __future__ import annotations

from importlib import import_module
from inspect import signature

import pytest

from mixbt_plugin import losses
from mixbt_plugin.registry import list_methods

PUBLIC = {
    "mixbt_plugin": "MethodInfo __version__ list_methods register register_method",
    "mixbt_plugin.losses": (
        "BarlowTwinsLoss BarlowTwinsTerms HSICSSLLoss MixedBarlowTwinsLoss MixedBarlowTwinsTerms "
        "MultiViewBarlowTwinsLoss MultiViewMixedBarlowTwinsLoss MultiViewVICRegLoss Pairing Target "
        "VICRegTerms barlow_twins_loss dead_columns hsic_ssl_loss mixed_barlow_twins_loss "
        "multiview_barlow_twins_loss multiview_mixed_barlow_twins_loss multiview_vicreg_loss"
    ),
    "mixbt_plugin.functional": (
        "Ddp GlobalBatch Impl Processes center dead_columns diagonal is_dead mean_over_processes "
        "widened"
    ),
    "mixbt_plugin.diagnostics": (
        "Diagnostics Measured Overfitting PowerLaw alignment alpha_req dead_dimensions "
        "effective_rank eigenvalues fit_power_law lidar off_diagonal_energy overfitting rank_me "
        "uniformity"
    ),
    "mixbt_plugin.methods": (
        "BarlowTwins HSICSSL LinearEvaluation MixedBarlowTwins MultiAugBarlowTwins "
        "MultiAugMixedBarlowTwins MultiAugVICReg ProjectorMethod VICReg"
    ),
    "mixbt_plugin.mixing": "Mixing draw_mixing mix_images",
    "mixbt_plugin.views": "BatchAugmentation ViewParameters ViewSettings",
    "mixbt_plugin.evaluation": (
        "BalancedAccuracy DISTANCES KNNScores LabelledFeatures OnlineKNN accuracy_at_k "
        "classification_step knn_scores"
    ),
}
ALL = "scale_loss impl ddp group check_finite"
STANDARDISED = f"{ALL} lamb unbiased eps"
ARGUMENTS = {
    "barlow_twins_loss": f"z_a z_b offdiag_target {STANDARDISED}",
    "hsic_ssl_loss": f"z_a z_b {STANDARDISED}",
    "mixed_barlow_twins_loss": f"z_a z_b z_m perm mix lamb_reg target {STANDARDISED}",
    "multiview_barlow_twins_loss": f"views pairing pooled {STANDARDISED}",
    "multiview_mixed_barlow_twins_loss": f"views z_m perm mix lamb_reg pairing {STANDARDISED}",
    "multiview_vicreg_loss": (
        "views sim_loss_weight var_loss_weight cov_loss_weight pairing eps impl ddp group "
        "check_finite"
    ),
}
METHODS = "hsic_ssl mixbt multiaug_barlow_twins multiaug_mixbt multiaug_vicreg"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    imported = import_module(module)
    assert sorted(imported.__all__) == PUBLIC[module].split()
    assert all(hasattr(imported, name) for name in imported.__all__)


@pytest.mark.parametrize("loss", ARGUMENTS)
def test_arguments_of_the_losses(loss: str) -> None:
    assert set(signature(getattr(losses, loss)).parameters) == set(ARGUMENTS[loss].split())


def test_names_of_the_methods() -> None:
    assert sorted(info.name for info in list_methods()) == METHODS.split()
