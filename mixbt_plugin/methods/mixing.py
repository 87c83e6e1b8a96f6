"""What the methods with mixed images share: their keys, the mixture, the regulariser's weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mixbt_plugin.losses import BarlowTwinsTerms, MixedBarlowTwinsTerms
from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.mixing import Mixing, draw_mixing, mix_images
from mixbt_plugin.settings import Section, setting


class MixingSettings(Section):
    """Keys of mixed images and of the regulariser on them."""

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


class MixingMethod(ProjectorMethod):
    """A method that passes mixed images through the network once more; subclasses give the losses.

    That forward sees ``mix · x_a + (1 - mix) · x_b[perm]``. It trains backbone and projector
    and moves their batch-norm statistics, as in the official code, but neither the online
    classifier nor the kNN sees it.

    Coefficient and permutation are functions of the config's ``seed``, the process's rank, the
    epoch and the batch: they differ between processes, and are the same in a run that is resumed.
    """

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        lamb_reg = self.current_lamb_reg(batch_idx)
        if self.settings.lamb_reg == 0:
            loss, on_diag, off_diag = self.loss_without_mixing(out["z"])
            terms = MixedBarlowTwinsTerms(loss, loss, torch.zeros_like(loss), on_diag, off_diag)
        else:
            z_m, mixing = self.mixture(batch[1], batch_idx)
            terms = self.loss_with_mixing(out["z"], z_m, mixing, lamb_reg)
        self.log_terms(
            {
                f"{self.cfg.method}_loss": terms.loss,
                "barlow_loss": terms.barlow_twins,
                "reg_loss": terms.regularizer,
                "on_diag": terms.on_diag,
                "off_diag": terms.off_diag,
                "lamb_reg": terms.loss.new_full((), lamb_reg),
            }
        )
        return terms.loss + out["loss"]

    def loss_without_mixing(self, zs: Sequence[Tensor]) -> BarlowTwinsTerms:
        """The loss of the embeddings (N, D) of the views alone."""
        raise NotImplementedError

    def loss_with_mixing(
        self, zs: Sequence[Tensor], z_m: Tensor, mixing: Mixing, lamb_reg: float
    ) -> MixedBarlowTwinsTerms:
        """That loss with the regulariser on the embeddings (N, D) of the mixture."""
        raise NotImplementedError

    def mixture(self, views: Sequence[Tensor], batch_idx: int) -> tuple[Tensor, Mixing]:
        """Embeddings (N, D) of the mixture of the first two views, and how they were mixed."""
        x_a, x_b = views[:2]
        mixing = self.draw_mixing(len(x_a), batch_idx).to(x_a.device)
        return self.multicrop_forward(mix_images(x_a, x_b, mixing))["z"], mixing

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
