"""What the methods over any number of views share: all views in one forward, where asked for."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.settings import ConfigError, Section, setting


class MultiViewSettings(Section):
    """Keys of how several views pass through the network."""

    pooled_batch_norm: bool = setting(
        False,
        help="all views in one forward, so that batch-norm's statistics are of all together "
        "(fastssl: True)",
        source="solo-learn",
    )


class MultiViewMethod(ProjectorMethod):
    """A method over any number of views, large and small crops alike.

    The host passes one view after another through the network, so that batch-norm normalises each
    by its own statistics. With ``pooled_batch_norm`` all of them are concatenated and pass in one
    forward of backbone and projector, as in fastssl (models/barlow_twins.py:50, vicreg.py:40);
    they must then be of one size.
    """

    @classmethod
    def _check_views(cls, cfg: DictConfig) -> None:
        super()._check_views(cfg)
        sizes = {_height_and_width(view.crop_size) for view in cfg.get("augmentations") or []}
        if cfg.method_kwargs.pooled_batch_norm and len(sizes) > 1:
            found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
            raise ConfigError(
                f"method_kwargs.pooled_batch_norm=True with views of {found} pixels: expected one "
                "crop_size in all of augmentations, or pooled_batch_norm=False."
            )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The host's outputs, and ``z``: the embeddings (N, D) of each view."""
        if not self.settings.pooled_batch_norm:
            return super().training_step(batch, batch_idx)
        indexes, views, targets = batch
        together = self.multicrop_forward(torch.cat(views))
        feats, z = together["feats"].chunk(len(views)), together["z"].chunk(len(views))
        out = super().training_step([indexes, list(feats), targets], batch_idx)
        return {**out, "z": list(z)}

    def forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """As `ProjectorMethod.forward`; of features (N, F), what the classifier makes of them."""
        if X.dim() == 2:
            return {"logits": self.classifier(X.detach()), "feats": X}
        return super().forward(X)

    def multicrop_forward(self, X: Tensor) -> dict[str, Any]:  # noqa: N803
        """As `ProjectorMethod.multicrop_forward`; features (N, F) stay what they are."""
        return {"feats": X} if X.dim() == 2 else super().multicrop_forward(X)


def _height_and_width(crop_size: Any) -> tuple[int, int]:
    sides = [crop_size] if isinstance(crop_size, int) else crop_size
    return sides[0], sides[-1]
