"""Multi-augmentation VICReg (arXiv 2312.10725)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixbt_plugin.losses import Pairing, multiview_vicreg_loss
from mixbt_plugin.methods.method_settings import LossSettings, ProjectorSettings, VICRegWeights
from mixbt_plugin.methods.multiview import MultiViewMethod, MultiViewSettings
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MultiAugVICRegSettings(MultiViewSettings, VICRegWeights, LossSettings, ProjectorSettings):
    """Keys of ``method_kwargs`` for ``multiaug_vicreg``."""

    eps: float = setting(
        1e-4, help="added to the variances (fastssl: 0)", source="solo-learn", ge=0
    )
    pairing: Pairing = setting(
        "all",
        help="all: mean over all pairs of views; mean: each view against the mean of the others, "
        "as fastssl; with two views both are solo-learn's VICReg",
        source="solo-learn at two views",
    )


@register_method("multiaug_vicreg", paper="2312.10725", views=(2, None))
class MultiAugVICReg(MultiViewMethod):
    """VICReg over several views per image.

    The views may be of any sizes, large and small crops alike.
    """

    Settings = MultiAugVICRegSettings
    settings: MultiAugVICRegSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        terms = self.loss_of(multiview_vicreg_loss, out["z"])
        self.log_terms(
            {
                "multiaug_vicreg_loss": terms.loss,
                "sim_loss": terms.sim,
                "var_loss": terms.var,
                "cov_loss": terms.cov,
            }
        )
        return terms.loss + out["loss"]
