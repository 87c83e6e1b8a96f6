"""Mixed Barlow Twins over any number of views (arXiv 2312.02151 and 2312.10725 together)."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig
from torch import Tensor

from mixbt_plugin.losses import (
    BarlowTwinsTerms,
    MixedBarlowTwinsTerms,
    Pairing,
    multiview_barlow_twins_loss,
    multiview_mixed_barlow_twins_loss,
)
from mixbt_plugin.methods.method_settings import BarlowTwinsSettings
from mixbt_plugin.methods.mixing import MixingMethod, MixingSettings
from mixbt_plugin.methods.multiview import MultiViewMethod, MultiViewSettings
from mixbt_plugin.mixing import Mixing
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import ConfigError, setting


class MultiAugMixedBarlowTwinsSettings(MixingSettings, MultiViewSettings, BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``multiaug_mixbt``."""

    pairing: Pairing = setting(
        "all",
        help="all: mean over all pairs of views, with two views mixbt; mean: each view, and the "
        "mixture's residual, against the mean view",
        source="this plugin",
    )


@register_method("multiaug_mixbt", paper="2312.02151", views=(2, None))
class MultiAugMixedBarlowTwins(MixingMethod, MultiViewMethod):
    """Mixed Barlow Twins over several views per image.

    One mixture, of the first two views, is one more forward, whatever the number of views.
    """

    Settings = MultiAugMixedBarlowTwinsSettings
    settings: MultiAugMixedBarlowTwinsSettings

    @classmethod
    def _check_views(cls, cfg: DictConfig) -> None:
        super()._check_views(cfg)
        if cfg.data.num_large_crops < 2:
            raise ConfigError(
                f"augmentations: {cfg.data.num_large_crops} view(s) of the first crop_size; "
                f"{cfg.method} mixes the first two views, which must be of one size: raise "
                "num_crops of the first pipeline."
            )

    def loss_without_mixing(self, zs: Sequence[Tensor]) -> BarlowTwinsTerms:
        """Barlow Twins over the views."""
        return self.loss_of(multiview_barlow_twins_loss, zs)

    def loss_with_mixing(
        self, zs: Sequence[Tensor], z_m: Tensor, mixing: Mixing, lamb_reg: float
    ) -> MixedBarlowTwinsTerms:
        """Mixed Barlow Twins over the views."""
        return self.loss_of(
            multiview_mixed_barlow_twins_loss,
            zs,
            z_m,
            perm=mixing.perm,
            mix=mixing.coefficient,
            lamb_reg=lamb_reg,
        )
