"""The objectives, as pure functions of embeddings, and as modules: no state, no configuration."""

from mixbt_plugin.functional import dead_columns
from mixbt_plugin.losses.barlow_twins import BarlowTwinsTerms, barlow_twins_loss
from mixbt_plugin.losses.hsic_ssl import hsic_ssl_loss
from mixbt_plugin.losses.mixed_barlow_twins import (
    MixedBarlowTwinsTerms,
    Target,
    mixed_barlow_twins_loss,
)
from mixbt_plugin.losses.modules import (
    BarlowTwinsLoss,
    HSICSSLLoss,
    MixedBarlowTwinsLoss,
    MultiViewBarlowTwinsLoss,
    MultiViewMixedBarlowTwinsLoss,
    MultiViewVICRegLoss,
)
from mixbt_plugin.losses.multiview_barlow_twins import Pairing, multiview_barlow_twins_loss
from mixbt_plugin.losses.multiview_mixed_barlow_twins import multiview_mixed_barlow_twins_loss
from mixbt_plugin.losses.multiview_vicreg import VICRegTerms, multiview_vicreg_loss

__all__ = [
    "BarlowTwinsLoss",
    "BarlowTwinsTerms",
    "HSICSSLLoss",
    "MixedBarlowTwinsLoss",
    "MixedBarlowTwinsTerms",
    "MultiViewBarlowTwinsLoss",
    "MultiViewMixedBarlowTwinsLoss",
    "MultiViewVICRegLoss",
    "Pairing",
    "Target",
    "VICRegTerms",
    "barlow_twins_loss",
    "dead_columns",
    "hsic_ssl_loss",
    "mixed_barlow_twins_loss",
    "multiview_barlow_twins_loss",
    "multiview_mixed_barlow_twins_loss",
    "multiview_vicreg_loss",
]
