"""What the methods share: a projector on the host's base class, and checks of their settings."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mixbt_plugin.functional import mean_over_processes
from mixbt_plugin.host import BaseMethod
from mixbt_plugin.methods.method_settings import ProjectorSettings, parse_settings
from mixbt_plugin.methods.optimization import BARLOW_COSINE, schedule, with_bias_lr
from mixbt_plugin.methods.projector import build_projector
from mixbt_plugin.registry import methods_for_more_views
from mixbt_plugin.settings import ConfigError, RunError, Section

Terms = TypeVar("Terms")


class ProjectorMethod(BaseMethod):
    """A backbone with a projector; subclasses add a loss in ``training_step``.

    Attributes:
        Settings: declares the keys of ``method_kwargs``.
        min_views: fewest views that the method takes, as `register_method` says.
        max_views: most views, None for any number.
        settings: the checked ``method_kwargs``.
        check_finite: whether the loss raises where it is not finite; False where a callback
            watches it.

    Args:
        cfg: a config in solo-learn's schema.
    """

    Settings: ClassVar[type[Section]] = ProjectorSettings
    min_views: ClassVar[int] = 2
    max_views: ClassVar[int | None] = 2
    settings: Any
    check_finite = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.settings = parse_settings(self.Settings, cfg.method_kwargs, cfg.method)
        self.projector = build_projector(
            self.features_dim,
            self.settings.proj_hidden_dim,
            self.settings.proj_output_dim,
            num_layers=self.settings.proj_num_layers,
            hidden_bias=self.settings.proj_hidden_bias,
            output_bias=self.settings.proj_output_bias,
        )

    @classmethod
    def add_and_assert_specific_cfg(cls, cfg: DictConfig) -> DictConfig:
        """Checks ``method_kwargs`` and the number of views, and fills in defaults.

        Raises:
            ValueError: names the key, the value and what would be right.
        """
        # Now, so that what is saved beside the checkpoint holds values, whoever reads it.
        OmegaConf.resolve(cfg)
        cfg = super().add_and_assert_specific_cfg(cfg)
        settings = parse_settings(cls.Settings, cfg.method_kwargs, cfg.method)
        cfg.method_kwargs = OmegaConf.create(settings.model_dump())
        cls._check_views(cfg)
        return cfg

    @classmethod
    def _check_views(cls, cfg: DictConfig) -> None:
        large, small = cfg.data.num_large_crops, cfg.data.num_small_crops
        views = large + small
        found = f"augmentations: {views} view(s) found ({large} large, {small} small crops); "
        if cls.max_views is not None and (small or views > cls.max_views):
            raise ConfigError(
                f"{found}{cfg.method} takes {cls.max_views} of one crop_size. For more use "
                f"{methods_for_more_views()}."
            )
        if views < cls.min_views:
            raise ConfigError(
                f"{found}{cfg.method} needs at least {cls.min_views}: raise num_crops or add a "
                "pipeline."
            )

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        """The host's parameter groups and the projector's."""
        groups: list[dict[str, Any]] = super().learnable_params
        groups = [*groups, {"name": "projector", "params": self.projector.parameters()}]
        return with_bias_lr(groups, self.cfg, self.lr)

    def on_fit_end(self) -> None:
        """Refuses a training set that filled no batch, which Lightning passes over in silence.

        Raises:
            RunError: there was no step.
        """
        super().on_fit_end()
        trainer = self.trainer
        if trainer.num_training_batches == 0 and trainer.limit_train_batches != 0:
            raise RunError(
                f"optimizer.batch_size={self.cfg.optimizer.batch_size}: nothing was trained, since "
                "the training set has fewer images, and incomplete batches are dropped."
            )

    def configure_optimizers(self) -> Any:
        """The host's optimiser and schedule, or `barlow_cosine`, which no host has."""
        if self.cfg.scheduler.name != BARLOW_COSINE:
            return super().configure_optimizers()
        self.scheduler = "none"
        optimizer = super().configure_optimizers()
        steps = self.trainer.estimated_stepping_batches
        return [optimizer], [schedule(optimizer, self.cfg, steps)]

    def project(self, feats: Tensor) -> Tensor:
        """Embeddings (N, D) of features (N, F)."""
        z: Tensor = self.projector(feats)
        return F.normalize(z, dim=-1) if self.settings.normalize_output else z

    def forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """The host's outputs for images (N, 3, H, W), and the embeddings ``z``, (N, D)."""
        out: dict[str, Any] = super().forward(X)
        return {**out, "z": self.project(out["feats"])}

    def multicrop_forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """Features and embeddings of images that neither classifier nor kNN shall see."""
        out: dict[str, Any] = super().multicrop_forward(X)
        return {**out, "z": self.project(out["feats"])}

    def loss_of(self, function: Callable[..., Terms], *embeddings: Any, **further: Any) -> Terms:
        """A loss, with the settings that are arguments of it by the same names.

        Args:
            function: of `mixbt_plugin.losses`, or with ``check_finite`` as they have.
            embeddings: its first arguments.
            further: arguments that are no settings, or that take the place of one.

        Returns:
            What the function returns.
        """
        taken = signature(function).parameters
        settings = {name: value for name, value in self.settings if name in taken}
        return function(*embeddings, **{**settings, **further}, check_finite=self.check_finite)

    def log_terms(self, terms: dict[str, Tensor]) -> None:
        """Logs terms of the loss, each as ``train_<name>``, as means over the processes.

        With ``ddp: exact`` every process has the terms of the global batch already. Otherwise, or
        where a method has no such setting, each has its own, and one reduction serves all terms:
        Lightning's ``sync_dist`` would put a barrier and a reduction behind each, at each step.
        """
        values = torch.stack([value.detach() for value in terms.values()])
        if getattr(self.settings, "ddp", None) != "exact":
            values = mean_over_processes(values)
        named = {f"train_{name}": value for name, value in zip(terms, values)}
        self.log_dict(named, on_epoch=True, sync_dist=False)
