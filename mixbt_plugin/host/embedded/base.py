"""The base class of the methods, with solo-learn's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from mixbt_plugin.backbones import build_backbone
from mixbt_plugin.evaluation import OnlineKNN, accuracy_at_k
from mixbt_plugin.host.embedded.backbones import BACKBONES
from mixbt_plugin.host.embedded.optimization import (
    OPTIMIZERS,
    LinearWarmupCosineAnnealingLR,
    without_decay_on_bias_and_norm,
)
from mixbt_plugin.keys import PretrainConfig
from mixbt_plugin.settings import ConfigError, fill_in


def weighted_mean(outputs: list[dict[str, Any]], key: str) -> Tensor:
    """Mean of a metric over validation batches, weighted by their sizes."""
    total = sum(out["batch_size"] for out in outputs)
    return torch.as_tensor(sum(out["batch_size"] * out[key] for out in outputs) / total).squeeze()


class OptimizedModule(pl.LightningModule):
    """What pre-training and linear evaluation share: optimiser and schedule from the config."""

    _OPTIMIZERS: ClassVar[dict[str, type[Optimizer]]] = OPTIMIZERS

    def read_optimization(self, cfg: DictConfig) -> None:
        """Takes the optimiser's and the schedule's settings over from the config."""
        self.max_epochs: int = cfg.max_epochs
        self.accumulate_grad_batches: int | None = cfg.accumulate_grad_batches
        self.optimizer: str = cfg.optimizer.name
        self.batch_size: int = cfg.optimizer.batch_size
        self.lr: float = cfg.optimizer.lr
        self.weight_decay: float = cfg.optimizer.weight_decay
        self.extra_optimizer_args: dict[str, Any] = cfg.optimizer.kwargs
        self.exclude_bias_n_norm_wd: bool = cfg.optimizer.exclude_bias_n_norm_wd
        self.scheduler: str = cfg.scheduler.name
        self.lr_decay_steps: list[int] | None = cfg.scheduler.lr_decay_steps
        self.min_lr: float = cfg.scheduler.min_lr
        self.warmup_start_lr: float = cfg.scheduler.warmup_start_lr
        self.warmup_epochs: float = cfg.scheduler.warmup_epochs
        self.scheduler_interval: str = cfg.scheduler.interval
        self.no_channel_last: bool = cfg.performance.disable_channel_last

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Optimiser over parameter groups."""
        if self.exclude_bias_n_norm_wd:
            groups = without_decay_on_bias_and_norm(groups)
        constructor = self._OPTIMIZERS[self.optimizer]
        return constructor(
            groups, lr=self.lr, weight_decay=self.weight_decay, **self.extra_optimizer_args
        )  # type: ignore[call-arg]

    def build_scheduler(self, optimizer: Optimizer) -> Any:
        """Schedule by ``scheduler.name``, in Lightning's terms; None for ``"none"``.

        Raises:
            ConfigError: there is no such schedule.
        """
        if self.scheduler == "none":
            return None
        if self.scheduler == "step":
            return MultiStepLR(optimizer, list(self.lr_decay_steps or []))
        if self.scheduler != "warmup_cosine":
            raise ConfigError(
                f"scheduler.name={self.scheduler!r}: expected warmup_cosine, step or none."
            )
        max_steps: float = self.max_epochs
        warmup_steps = self.warmup_epochs
        if self.scheduler_interval == "step":
            max_steps = self.trainer.estimated_stepping_batches
            warmup_steps = self.warmup_epochs * max_steps / self.max_epochs
        return {
            "scheduler": LinearWarmupCosineAnnealingLR(
                optimizer,
                warmup_epochs=warmup_steps,
                max_epochs=max_steps,
                warmup_start_lr=self.warmup_start_lr if self.warmup_epochs > 0 else self.lr,
                eta_min=self.min_lr,
            ),
            "interval": self.scheduler_interval,
            "frequency": 1,
        }

    def to_layout(self, images: Tensor) -> Tensor:
        """Images in the memory layout that the convolutions were given."""
        return images if self.no_channel_last else images.to(memory_format=torch.channels_last)


class BaseMethod(OptimizedModule):
    """Backbone, online classifier, online kNN and the training step around a method's loss.

    The interface is that of solo-learn's ``BaseMethod`` (solo/methods/base.py): a subclass adds
    its heads to `learnable_params`, its outputs to `forward`, and its loss to `training_step`.

    Args:
        cfg: a config in solo-learn's schema, as `parse_pretrain_cfg` leaves it.
    """

    _BACKBONES: ClassVar[dict[str, Callable[..., nn.Module]]] = BACKBONES

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        cfg = self.add_and_assert_specific_cfg(cfg)
        self.cfg = cfg
        self.backbone, self.features_dim = build_backbone(self._BACKBONES, cfg, cfg.method)
        self.num_classes: int = cfg.data.num_classes
        self.classifier = nn.Linear(self.features_dim, self.num_classes)

        self.read_optimization(cfg)
        self.classifier_lr: float = cfg.optimizer.classifier_lr
        if self.accumulate_grad_batches:
            self.lr *= self.accumulate_grad_batches
            self.classifier_lr *= self.accumulate_grad_batches
            self.min_lr *= self.accumulate_grad_batches
            self.warmup_start_lr *= self.accumulate_grad_batches

        self.num_large_crops: int = cfg.data.num_large_crops
        self.num_small_crops: int = cfg.data.num_small_crops
        self.num_crops = self.num_large_crops + self.num_small_crops

        self.knn_eval: bool = cfg.knn_eval.enabled
        if self.knn_eval:
            self.knn = OnlineKNN(cfg.knn_eval.k, cfg.knn_eval.distance_func)
        self.validation_step_outputs: list[dict[str, Any]] = []

    @staticmethod
    def add_and_assert_specific_cfg(cfg: DictConfig) -> DictConfig:
        """Adds the defaults of the keys that this class reads."""
        fill_in(cfg, PretrainConfig)
        return cfg

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        """Parameter groups of the backbone and the online classifier."""
        return [
            {"name": "backbone", "params": self.backbone.parameters()},
            {
                "name": "classifier",
                "params": self.classifier.parameters(),
                "lr": self.classifier_lr,
                "weight_decay": 0,
            },
        ]

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule, as Lightning asks for them."""
        optimizer = self.build_optimizer(self.learnable_params)
        scheduler = self.build_scheduler(optimizer)
        return optimizer if scheduler is None else ([optimizer], [scheduler])

    def forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """Features (N, F) and the classifier's logits (N, classes) of images (N, 3, H, W)."""
        feats = self.backbone(self.to_layout(X))
        return {"logits": self.classifier(feats.detach()), "feats": feats}

    def multicrop_forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """Features (N, F) of images that neither the classifier nor the kNN shall see."""
        return {"feats": self.backbone(self.to_layout(X))}

    def _classified(self, images: Tensor, targets: Tensor) -> dict[str, Any]:
        out = self(images)
        logits = out["logits"]
        out["loss"] = F.cross_entropy(logits, targets, ignore_index=-1)
        out["acc1"] = accuracy_at_k(logits, targets, 1)
        out["acc5"] = accuracy_at_k(logits, targets, 5)
        return out

    def training_step(self, batch: list[Any], batch_idx: int) -> Any:
        """Forwards every view and trains the online classifier.

        Args:
            batch: indexes, a list of views (N, 3, H, W), classes (N,).
            batch_idx: number of the batch.

        Returns:
            Each forward output as a list over the views, and the classifier's ``loss``.
        """
        _, views, targets = batch
        views = [views] if isinstance(views, Tensor) else views
        if len(views) != self.num_crops:
            raise ConfigError(f"the batch holds {len(views)} views, the config {self.num_crops}.")
        large = [self._classified(x, targets) for x in views[: self.num_large_crops]]
        outs: dict[str, Any] = {key: [out[key] for out in large] for key in large[0]}
        for x in views[self.num_large_crops :]:
            for key, value in self.multicrop_forward(x).items():
                outs.setdefault(key, []).append(value)

        for key in ("loss", "acc1", "acc5"):
            outs[key] = sum(outs[key]) / self.num_large_crops
        metrics = {
            "train_class_loss": outs["loss"],
            "train_acc1": outs["acc1"],
            "train_acc5": outs["acc5"],
        }
        self.log_dict(metrics, on_epoch=True, sync_dist=True)
        if self.knn_eval:
            self._remember(outs["feats"][: self.num_large_crops], targets)
        return outs

    def _remember(self, feats: list[Tensor], targets: Tensor) -> None:
        targets = targets.repeat(self.num_large_crops)
        labelled = targets != -1
        self.knn.update(train_features=torch.cat(feats)[labelled], train_targets=targets[labelled])

    def on_train_epoch_start(self) -> None:
        """Forgets the kNN's features of an epoch that no validation followed."""
        if self.knn_eval:
            self.knn.reset()

    def validation_step(
        self, batch: list[Tensor], batch_idx: int, dataloader_idx: int | None = None
    ) -> dict[str, Any]:
        """Classifies a batch of images (N, 3, H, W) with classes (N,)."""
        images, targets = batch
        out = self._classified(images, targets)
        if self.knn_eval and not self.trainer.sanity_checking:
            self.knn.update(test_features=out["feats"], test_targets=targets)
        metrics = {
            "batch_size": len(targets),
            "val_loss": out["loss"],
            "val_acc1": out["acc1"],
            "val_acc5": out["acc5"],
        }
        self.validation_step_outputs.append(metrics)
        return metrics

    def on_validation_epoch_end(self) -> None:
        """Logs the online accuracies of classifier and kNN."""
        outputs = self.validation_step_outputs
        log: dict[str, Any] = {
            key: weighted_mean(outputs, key) for key in ("val_loss", "val_acc1", "val_acc5")
        }
        outputs.clear()
        if self.knn_eval and not self.trainer.sanity_checking:
            log["val_knn_acc1"], log["val_knn_acc5"] = self.knn.compute()
            self.knn.reset()
        self.log_dict(log, sync_dist=True)
