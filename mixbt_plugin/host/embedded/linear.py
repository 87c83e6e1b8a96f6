"""Linear evaluation and fine-tuning of a backbone, with solo-learn's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mixbt_plugin.evaluation import classification_step
from mixbt_plugin.host.embedded.base import OptimizedModule, weighted_mean
from mixbt_plugin.keys import LinearConfig
from mixbt_plugin.settings import ConfigError, fill_in


class LinearModel(OptimizedModule):
    """A linear classifier on a backbone, frozen and in evaluation mode unless ``cfg.finetune``.

    Args:
        backbone: images (N, 3, H, W) to features (N, F); has ``inplanes`` or ``num_features``.
        cfg: a config in solo-learn's schema, as `parse_linear_cfg` leaves it.
        loss_func: of logits and targets, cross-entropy by default.
        mixup_func: mixes a training batch and its targets, as timm's ``Mixup``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        cfg: DictConfig,
        loss_func: Callable[..., Tensor] | None = None,
        mixup_func: Callable[..., tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        cfg = self.add_and_assert_specific_cfg(cfg)
        self.backbone = backbone
        features_dim = getattr(backbone, "inplanes", None) or backbone.num_features
        self.classifier = nn.Linear(features_dim, cfg.data.num_classes)  # type: ignore[arg-type]
        self.loss_func = loss_func or nn.CrossEntropyLoss()
        self.mixup_func = mixup_func
        self.read_optimization(cfg)
        self.finetune: bool = cfg.finetune
        self.backbone.requires_grad_(self.finetune)
        self.validation_step_outputs: list[dict[str, Any]] = []

    @staticmethod
    def add_and_assert_specific_cfg(cfg: DictConfig) -> DictConfig:
        """Adds the defaults of the keys that this class reads."""
        fill_in(cfg, LinearConfig)
        if cfg.optimizer.layer_decay:
            raise ConfigError(
                f"optimizer.layer_decay={cfg.optimizer.layer_decay}: needs solo-learn; without it "
                "leave the key out."
            )
        return cfg

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule, as Lightning asks for them."""
        groups: list[dict[str, Any]] = [
            {"name": "classifier", "params": self.classifier.parameters()}
        ]
        if self.finetune:
            groups.insert(0, {"name": "backbone", "params": self.backbone.parameters()})
        optimizer = self.build_optimizer(groups)
        scheduler = self.build_scheduler(optimizer)
        return optimizer if scheduler is None else ([optimizer], [scheduler])

    def forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """Features (N, F) and logits (N, classes) of images (N, 3, H, W)."""
        with torch.set_grad_enabled(self.finetune):
            feats = self.backbone(self.to_layout(X))
        return {"logits": self.classifier(feats), "feats": feats}

    def shared_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """See `classification_step`."""
        return classification_step(self, batch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch of images and classes; a frozen backbone stays in evaluation mode."""
        if not self.finetune:
            self.backbone.eval()
        out = self.shared_step(batch, batch_idx)
        log = {f"train_{key}": value for key, value in out.items() if key != "batch_size"}
        self.log_dict(log, on_epoch=True, sync_dist=True)
        loss: Tensor = out["loss"]
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Any]:
        """Loss and accuracies of a batch of images and classes."""
        out = self.shared_step(batch, batch_idx)
        metrics = {"batch_size": out.pop("batch_size")}
        metrics |= {f"val_{key}": value for key, value in out.items()}
        self.validation_step_outputs.append(metrics)
        return metrics

    def on_validation_epoch_end(self) -> None:
        """Logs the accuracies over the validation set."""
        outputs = self.validation_step_outputs
        self.log_dict(
            {key: weighted_mean(outputs, key) for key in ("val_loss", "val_acc1", "val_acc5")},
            sync_dist=True,
        )
        outputs.clear()
