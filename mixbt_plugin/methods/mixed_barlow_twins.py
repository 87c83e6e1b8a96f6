"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mixbt_plugin.losses import (
    BarlowTwinsTerms,
    MixedBarlowTwinsTerms,
    Target,
    barlow_twins_loss,
    mixed_barlow_twins_loss,
)
from mixbt_plugin.methods.method_settings import BarlowTwinsSettings
from mixbt_plugin.methods.mixing import MixingMethod, MixingSettings
from mixbt_plugin.mixing import Mixing
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MixedBarlowTwinsSettings(MixingSettings, BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``mixbt``."""

    target: Target = setting(
        "paper",
        help="the regulariser's target: paper, or imagenet-code as in mix-bt's main_imagenet.py",
        source="mix-bt README and main.py",
    )


@register_method("mixbt", paper="2312.02151", views=2)
class MixedBarlowTwins(MixingMethod):
    """Barlow Twins with a regulariser on linearly mixed images."""

    Settings = MixedBarlowTwinsSettings
    settings: MixedBarlowTwinsSettings

    def loss_without_mixing(self, zs: Sequence[Tensor]) -> BarlowTwinsTerms:
        """Barlow Twins."""
        z_a, z_b = zs
        return self.loss_of(barlow_twins_loss, z_a, z_b)

    def loss_with_mixing(
        self, zs: Sequence[Tensor], z_m: Tensor, mixing: Mixing, lamb_reg: float
    ) -> MixedBarlowTwinsTerms:
        """Mixed Barlow Twins."""
        z_a, z_b = zs
        return self.loss_of(
            mixed_barlow_twins_loss,
            z_a,
            z_b,
            z_m,
            perm=mixing.perm,
            mix=mixing.coefficient,
            lamb_reg=lamb_reg,
        )
