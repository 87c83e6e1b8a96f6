"""HSIC-SSL (arXiv 2104.13712)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixbt_plugin.losses import hsic_ssl_loss
from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.methods.method_settings import BarlowTwinsSettings
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class HSICSSLSettings(BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``hsic_ssl``."""

    lamb: float | None = setting(  # type: ignore[assignment]
        None,
        help="weight of the off-diagonal term; 1 / proj_output_dim when null",
        source="Barlow-Twins-HSIC README",
        ge=0,
    )
    scale_loss: float = setting(
        1.0, help="factor of the whole loss", source="Barlow-Twins-HSIC", gt=0
    )


@register_method("hsic_ssl", paper="2104.13712", views=2)
class HSICSSL(ProjectorMethod):
    """Barlow Twins whose off-diagonal entries are drawn to -1."""

    Settings = HSICSSLSettings
    settings: HSICSSLSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        z_a, z_b = out["z"]
        lamb = self.settings.lamb
        if lamb is None:
            lamb = 1 / self.settings.proj_output_dim
        terms = self.loss_of(hsic_ssl_loss, z_a, z_b, lamb=lamb)
        self.log_terms(
            {
                "hsic_ssl_loss": terms.loss,
                "on_diag": terms.on_diag,
                "off_diag": terms.off_diag,
            }
        )
        return terms.loss + out["loss"]
