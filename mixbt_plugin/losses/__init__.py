"""The objectives, as pure functions of embeddings: no module, no state, no configuration."""

from mixbt_plugin.losses._checks import check_finite
from mixbt_plugin.losses.barlow_twins import BarlowTwinsLoss, barlow_twins_loss
from mixbt_plugin.losses.hsic_ssl import hsic_ssl_loss
from mixbt_plugin.losses.mixed_barlow_twins import (
    MixedBarlowTwinsLoss,
    mixed_barlow_twins_loss,
)
from mixbt_plugin.losses.multiview_barlow_twins import multiview_barlow_twins_loss
from mixbt_plugin.losses.multiview_vicreg import VICRegLoss, multiview_vicreg_loss

__all__ = [
    "BarlowTwinsLoss",
    "MixedBarlowTwinsLoss",
    "VICRegLoss",
    "barlow_twins_loss",
    "check_finite",
    "hsic_ssl_loss",
    "mixed_barlow_twins_loss",
    "multiview_barlow_twins_loss",
    "multiview_vicreg_loss",
]
