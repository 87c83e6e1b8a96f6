"""solo-learn's Barlow Twins and VICReg, for hosts that do not bring them.

They take solo-learn's keys and no others, so that a config means the same on both hosts.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mixbt_plugin.losses import barlow_twins_loss, multiview_vicreg_loss
from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.methods.method_settings import BarlowTwinsWeights, ProjectorWidths, VICRegWeights
from mixbt_plugin.registry import register_method


class SoloLearnProjectorSettings(ProjectorWidths):
    """Keys of solo-learn's projector: three layers, with biases."""

    proj_num_layers: ClassVar[int] = 3
    proj_hidden_bias: ClassVar[bool] = True
    proj_output_bias: ClassVar[bool] = True
    normalize_output: ClassVar[bool] = False
    ddp: ClassVar[str] = "legacy"


class SoloLearnBarlowTwinsSettings(BarlowTwinsWeights, SoloLearnProjectorSettings):
    """Keys of ``method_kwargs`` for ``barlow_twins``."""


class SoloLearnVICRegSettings(VICRegWeights, SoloLearnProjectorSettings):
    """Keys of ``method_kwargs`` for ``vicreg``."""


@register_method("barlow_twins", paper="2103.03230", views=2, baseline=True)
class BarlowTwins(ProjectorMethod):
    """Barlow Twins (arXiv 2103.03230) as in solo/methods/barlow_twins.py."""

    Settings = SoloLearnBarlowTwinsSettings
    settings: SoloLearnBarlowTwinsSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        z_a, z_b = out["z"]
        terms = barlow_twins_loss(
            z_a,
            z_b,
            lamb=self.settings.lamb,
            scale_loss=self.settings.scale_loss,
            ddp="legacy",
            check_finite=self.check_finite,
        )
        self.log_terms({"barlow_loss": terms.loss})
        return terms.loss + out["loss"]


@register_method("vicreg", paper="2105.04906", views=2, baseline=True)
class VICReg(ProjectorMethod):
    """VICReg (arXiv 2105.04906) as in solo/methods/vicreg.py."""

    Settings = SoloLearnVICRegSettings
    settings: SoloLearnVICRegSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        terms = multiview_vicreg_loss(
            out["z"],
            sim_loss_weight=self.settings.sim_loss_weight,
            var_loss_weight=self.settings.var_loss_weight,
            cov_loss_weight=self.settings.cov_loss_weight,
            ddp="legacy",
            check_finite=self.check_finite,
        )
        self.log_terms({"vicreg_loss": terms.loss})
        return terms.loss + out["loss"]
