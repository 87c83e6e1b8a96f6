"""Multi-augmentation Barlow Twins (arXiv 2312.10725)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mixbt_plugin.losses import Pairing, multiview_barlow_twins_loss
from mixbt_plugin.methods.method_settings import BarlowTwinsSettings
from mixbt_plugin.methods.multiview import MultiViewMethod, MultiViewSettings
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MultiAugBarlowTwinsSettings(MultiViewSettings, BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``multiaug_barlow_twins``."""

    pairing: Pairing = setting(
        "all",
        help="all: mean over all pairs of views, with two views solo-learn's Barlow Twins; mean: "
        "each view against the mean view, as fastssl does for more than two",
        source="solo-learn at two views",
    )
    pooled: bool = setting(
        False,
        help="standardise all views together (fastssl: True)",
        source="solo-learn",
    )


@register_method("multiaug_barlow_twins", paper="2312.10725", views=(2, None))
class MultiAugBarlowTwins(MultiViewMethod):
    """Barlow Twins over several views per image.

    The views may be of any sizes, large and small crops alike.
    """

    Settings = MultiAugBarlowTwinsSettings
    settings: MultiAugBarlowTwinsSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        terms = self.loss_of(multiview_barlow_twins_loss, out["z"])
        self.log_terms(
            {
                "multiaug_barlow_loss": terms.loss,
                "on_diag": terms.on_diag,
                "off_diag": terms.off_diag,
            }
        )
        return terms.loss + out["loss"]
