"""Linear evaluation and fine-tuning: the host's model, and what the papers' protocols add to it."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    ReduceLROnPlateau,
)

from mixbt_plugin.evaluation import classification_step
from mixbt_plugin.host import LinearModel
from mixbt_plugin.keys import LinearConfig, LinearScheduler, LinearSettings
from mixbt_plugin.settings import ConfigError, check, fill_in, plain


class LinearEvaluation(LinearModel):
    """A linear classifier on a backbone that is frozen, or trained with ``finetune``.

    Beside solo-learn's keys it reads

    - ``backbone_batch_norm``: mode of the backbone's batch-norm while the classifier is trained.
      ``eval`` is the default for a frozen backbone; ``train`` normalises with the batch's
      statistics and updates the running ones, as the codes of mix-bt (linear.py:45) and HSIC-SSL
      (linear.py:36) do. The default of a fine-tuned backbone is ``train``.
    - ``feature_passes``: above 1 the classifier is trained on features that were computed once,
      each image's the mean over as many views of it, as in fastssl's ``precache_outputs``
      (scripts/train_model_multiPatch.py). `mixbt_plugin.apps.linear` computes them.
    - ``optimizer.classifier_lr``: the classifier's rate in fine-tuning, ``optimizer.lr`` being
      the backbone's (Barlow Twins' ``--lr-classifier`` and ``--lr-backbone``).
    - ``scheduler.name``: also ``cosine`` (no warm-up, each group from its own rate down to
      ``scheduler.min_lr``), by ``scheduler.interval``. Once an epoch go ``step``, by the factor
      ``scheduler.gamma`` at ``scheduler.lr_decay_steps``; ``exponential``, from ``optimizer.lr``
      down to ``scheduler.min_lr`` in ``max_epochs`` (solo-learn takes the weight decay as the
      factor instead, solo/methods/linear.py:254); and ``reduce``, when ``val_loss`` stagnates
      (solo-learn does not name what it monitors, which Lightning refuses).

    Args:
        backbone: images (N, 3, H, W) to features (N, F); has ``inplanes`` or ``num_features``.
        cfg: as the host's ``parse_linear_cfg`` leaves it.
        loss_func: of logits and targets, cross-entropy by default.
        mixup_func: mixes a training batch and its targets, as timm's ``Mixup``.

    Raises:
        ValueError: a key has a value that cannot be used.
    """

    def __init__(
        self, backbone: nn.Module, cfg: DictConfig, loss_func: Any = None, mixup_func: Any = None
    ) -> None:
        super().__init__(backbone, cfg=cfg, loss_func=loss_func, mixup_func=mixup_func)
        self.backbone_batch_norm: str = cfg.backbone_batch_norm
        self.classifier_lr: float | None = cfg.optimizer.classifier_lr
        self.gamma: float = cfg.scheduler.gamma
        self.validated_every: int = cfg.check_val_every_n_epoch

    @staticmethod
    def add_and_assert_specific_cfg(cfg: DictConfig) -> DictConfig:
        """Adds the defaults of the keys that this class reads, and checks them."""
        cfg = LinearModel.add_and_assert_specific_cfg(cfg)
        fill_in(cfg, LinearConfig)
        if cfg.backbone_batch_norm is None:
            cfg.backbone_batch_norm = "train" if cfg.finetune else "eval"
        _check(cfg)
        return cfg

    def forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """Features (N, F) and logits (N, classes) of images (N, 3, H, W), or of such features."""
        if X.dim() == 2:
            return {"logits": self.classifier(X), "feats": X}
        if self.training:
            # Here, because the host puts a frozen backbone into evaluation mode at each step.
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.train(self.backbone_batch_norm == "train")
        outputs: dict[str, Any] = super().forward(X)
        return outputs

    def shared_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Loss and accuracies of a batch of images and classes."""
        return classification_step(self, batch)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule, as Lightning asks for them."""
        if self.scheduler == "warmup_cosine":
            return super().configure_optimizers()
        optimizer = self._optimizer()
        if self.scheduler == "none":
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._schedule(optimizer)}

    def _optimizer(self) -> Optimizer:
        name, self.scheduler = self.scheduler, "none"
        optimizer: Optimizer = super().configure_optimizers()
        self.scheduler = name
        if self.classifier_lr is not None:
            of_the_classifier = set(self.classifier.parameters())
            for group in optimizer.param_groups:
                if of_the_classifier.issuperset(group["params"]):
                    group["lr"] = self.classifier_lr
        return optimizer

    def _schedule(self, optimizer: Optimizer) -> dict[str, Any]:
        if self.scheduler == "step":
            epochs = list(self.lr_decay_steps or [])
            return {"scheduler": MultiStepLR(optimizer, epochs, self.gamma)}
        if self.scheduler == "exponential":
            factor = (self.min_lr / self.lr) ** (1 / self.max_epochs)
            return {"scheduler": ExponentialLR(optimizer, factor)}
        if self.scheduler == "reduce":
            plateau = ReduceLROnPlateau(optimizer)
            # When there is a loss to look at.
            return {"scheduler": plateau, "monitor": "val_loss", "frequency": self.validated_every}
        in_steps = self.scheduler_interval == "step"
        length = self.trainer.estimated_stepping_batches if in_steps else self.max_epochs
        return {
            "scheduler": CosineAnnealingLR(optimizer, int(length), eta_min=self.min_lr),
            "interval": self.scheduler_interval,
        }


def _check(cfg: DictConfig) -> None:
    check(LinearSettings, {key: cfg[key] for key in LinearSettings.model_fields})
    check(LinearScheduler, plain(cfg.scheduler), "scheduler")
    name = cfg.scheduler.name
    if cfg.feature_passes > 1 and (cfg.finetune or cfg.backbone_batch_norm == "train"):
        key = "finetune=True" if cfg.finetune else "backbone_batch_norm='train'"
        raise ConfigError(
            f"feature_passes={cfg.feature_passes} with {key}: the features are computed once, by a "
            "backbone that does not change; expected feature_passes=1, or finetune=False and "
            "backbone_batch_norm='eval'."
        )
    if name == "step" and not cfg.scheduler.lr_decay_steps:
        raise ConfigError(
            "scheduler.lr_decay_steps is missing: the epochs at which scheduler.name=step lowers "
            "the learning rate, such as [60, 80]."
        )
    if name == "exponential" and not 0 < cfg.scheduler.min_lr <= cfg.optimizer.lr:
        raise ConfigError(
            f"scheduler.min_lr={cfg.scheduler.min_lr}: scheduler.name=exponential goes from "
            f"optimizer.lr={cfg.optimizer.lr:g} (in effect) down to it; expected a number above 0 "
            "and not above that."
        )
    if cfg.optimizer.classifier_lr is None:
        return
    if not cfg.finetune:
        raise ConfigError(
            "optimizer.classifier_lr is for finetune=true; the backbone is frozen here, and "
            "optimizer.lr is the classifier's."
        )
    if name == "warmup_cosine":
        raise ConfigError(
            "optimizer.classifier_lr: scheduler.name=warmup_cosine starts backbone and classifier "
            "at one rate; another schedule keeps two."
        )
