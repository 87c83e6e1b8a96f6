"""Mixed Barlow Twins over any number of views (arXiv 2312.02151 and 2312.10725 together)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from omegaconf import DictConfig
from torch import Tensor

from mixbt_plugin.losses import multiview_barlow_twins_loss, multiview_mixed_barlow_twins_loss
from mixbt_plugin.methods.mixing import MixingMethod, MixingSettings
from mixbt_plugin.methods.multiview import MultiViewMethod, MultiViewSettings
from mixbt_plugin.methods.settings import BarlowTwinsSettings
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import ConfigError, setting


class MultiAugMixedBarlowTwinsSettings(MixingSettings, MultiViewSettings, BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``multiaug_mixbt``."""

    pairing: Literal["all", "mean"] = setting(
        "all",
        help="all: mean over all pairs of views, with two views mixbt; mean: each view, and the "
        "mixture's residual, against the mean view",
        source="this plugin",
    )

    def loss_arguments(self) -> dict[str, Any]:
        """The keys that are keyword arguments of the loss, by the same names."""
        return {**super().loss_arguments(), "pairing": self.pairing}


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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        lamb_reg = self.current_lamb_reg(batch_idx)
        if self.settings.lamb_reg == 0:
            loss, on_diag, off_diag = multiview_barlow_twins_loss(out["z"], **self.loss_arguments())
            barlow_twins, regularizer = loss, torch.zeros_like(loss)
        else:
            z_m, mixing = self.mixture(batch[1], batch_idx)
            loss, barlow_twins, regularizer, on_diag, off_diag = multiview_mixed_barlow_twins_loss(
                out["z"],
                z_m,
                perm=mixing.perm,
                mix=mixing.coefficient,
                lamb_reg=lamb_reg,
                **self.loss_arguments(),
            )
        self.log_terms(
            {
                "multiaug_mixbt_loss": loss,
                "barlow_loss": barlow_twins,
                "reg_loss": regularizer,
                "on_diag": on_diag,
                "off_diag": off_diag,
                "lamb_reg": loss.new_full((), lamb_reg),
            }
        )
        return loss + out["loss"]
