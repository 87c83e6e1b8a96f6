"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mixbt_plugin.losses import barlow_twins_loss, mixed_barlow_twins_loss
from mixbt_plugin.methods.mixing import MixingMethod, MixingSettings
from mixbt_plugin.methods.settings import BarlowTwinsSettings
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MixedBarlowTwinsSettings(MixingSettings, BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``mixbt``."""

    target: Literal["paper", "imagenet-code"] = setting(
        "paper",
        help="the regulariser's target: paper, or imagenet-code as in mix-bt's main_imagenet.py",
        source="mix-bt README and main.py",
    )


@register_method("mixbt", paper="2312.02151", views=2)
class MixedBarlowTwins(MixingMethod):
    """Barlow Twins with a regulariser on linearly mixed images."""

    Settings = MixedBarlowTwinsSettings
    settings: MixedBarlowTwinsSettings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        z_a, z_b = out["z"]
        shared = self.loss_arguments()
        lamb_reg = self.current_lamb_reg(batch_idx)
        if self.settings.lamb_reg == 0:
            loss, on_diag, off_diag = barlow_twins_loss(z_a, z_b, **shared)
            barlow_twins, regularizer = loss, torch.zeros_like(loss)
        else:
            z_m, mixing = self.mixture(batch[1], batch_idx)
            loss, barlow_twins, regularizer, on_diag, off_diag = mixed_barlow_twins_loss(
                z_a,
                z_b,
                z_m,
                perm=mixing.perm,
                mix=mixing.coefficient,
                lamb_reg=lamb_reg,
                target=self.settings.target,
                **shared,
            )
        self.log_terms(
            {
                "mixbt_loss": loss,
                "barlow_loss": barlow_twins,
                "reg_loss": regularizer,
                "on_diag": on_diag,
                "off_diag": off_diag,
                "lamb_reg": loss.new_full((), lamb_reg),
            }
        )
        return loss + out["loss"]
