"""Mixed Barlow Twins (arXiv 2312.02151)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mixbt_plugin.losses import barlow_twins_loss, mixed_barlow_twins_loss
from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.methods.settings import BarlowTwinsSettings
from mixbt_plugin.mixing import Mixing, draw_mixing, mix_images
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MixedBarlowTwinsSettings(BarlowTwinsSettings):
    """Keys of ``method_kwargs`` for ``mixbt``."""

    lamb_reg: float = setting(
        1.0,
        help="weight of the regulariser, relative to lamb (mix-bt: 4 on CIFAR and Tiny-ImageNet, "
        "2 on STL-10); 0 is Barlow Twins, without the third forward",
        source="mix-bt on ImageNet",
        ge=0,
    )
    lamb_reg_warmup_epochs: float = setting(
        0.0,
        help="epochs in which that weight rises linearly from 0 (mix-bt on ImageNet: 10)",
        source="mix-bt on small images",
        ge=0,
    )
    mix_alpha: float = setting(
        1.0,
        help="the mixing coefficient is drawn from Beta(mix_alpha, mix_alpha)",
        source="mix-bt",
        gt=0,
    )
    mix_per_sample: bool = setting(
        False, help="draw a coefficient for each image, not one a batch", source="mix-bt"
    )
    target: Literal["paper", "imagenet-code"] = setting(
        "paper",
        help="the regulariser's target: paper, or imagenet-code as in mix-bt's main_imagenet.py",
        source="mix-bt README and main.py",
    )


@register_method("mixbt", paper="2312.02151", views=2)
class MixedBarlowTwins(ProjectorMethod):
    """Barlow Twins with a regulariser on linearly mixed images.

    A third forward sees ``mix · x_a + (1 - mix) · x_b[perm]``. It trains backbone and projector
    and moves their batch-norm statistics, as in the official code, but neither the online
    classifier nor the kNN sees it.

    Coefficient and permutation are functions of the config's ``seed``, the process's rank, the
    epoch and the batch: they differ between processes, and are the same in a run that is resumed.
    """

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
            x_a, x_b = batch[1]
            mixing = self.draw_mixing(len(x_a), batch_idx).to(x_a.device)
            z_m = self.multicrop_forward(mix_images(x_a, x_b, mixing))["z"]
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

    def draw_mixing(self, batch_size: int, batch_idx: int) -> Mixing:
        """This batch's coefficient and permutation."""
        seed = int(OmegaConf.select(self.cfg, "seed", default=0))
        return draw_mixing(
            batch_size,
            alpha=self.settings.mix_alpha,
            per_sample=self.settings.mix_per_sample,
            seed=(seed, self.global_rank, self.current_epoch, batch_idx),
        )

    def current_lamb_reg(self, batch_idx: int) -> float:
        """The regulariser's weight at this batch, warm-up included."""
        warmup = self.settings.lamb_reg_warmup_epochs
        if not warmup:
            return self.settings.lamb_reg
        epochs = self.current_epoch + batch_idx / self.trainer.num_training_batches
        return self.settings.lamb_reg * min(1.0, epochs / warmup)
