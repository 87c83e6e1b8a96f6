"""Inputs for the loss tests, and one call that knows how to call each loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mixbt_plugin.losses import (
    barlow_twins_loss,
    hsic_ssl_loss,
    mixed_barlow_twins_loss,
    multiview_barlow_twins_loss,
    multiview_mixed_barlow_twins_loss,
    multiview_vicreg_loss,
)

LossOfViews = Callable[..., Any]


def reference_views(n: int, d: int) -> dict[str, Tensor]:
    """The float64 inputs (n, d) of data/reference_values.json, by its formula."""
    i = torch.arange(n, dtype=torch.float64)[:, None]
    j = torch.arange(d, dtype=torch.float64)[None]
    return {
        name: torch.sin(0.7 * i + 1.3 * j + 0.11 * i * j)
        + 0.4 * torch.sin(2.1 * (v + 1) * i + 0.5 * j + 0.3 * v)
        for v, name in enumerate("abmc")
    }


def random_views(v: int, n: int, d: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """V correlated views (n, d), the same at each call."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(n, d, dtype=torch.float64, generator=generator)
    noise = torch.randn(v, n, d, dtype=torch.float64, generator=generator)
    return [(shared + 0.5 * noise[i]).to(dtype).requires_grad_() for i in range(v)]


def reversed_rows(n: int) -> Tensor:
    """A permutation that is not its own neighbour: n - 1, …, 0."""
    return torch.arange(n - 1, -1, -1)


def _mixed(target: Any) -> LossOfViews:
    def loss(views: Sequence[Tensor], **kwargs: Any) -> Any:
        perm = kwargs.pop("perm", reversed_rows(views[0].size(0)))
        mix = kwargs.pop("mix", 0.3)
        return mixed_barlow_twins_loss(*views, perm=perm, mix=mix, target=target, **kwargs)

    return loss


def _multiview_mixed(pairing: Any) -> LossOfViews:
    def loss(views: Sequence[Tensor], **kwargs: Any) -> Any:
        perm = kwargs.pop("perm", reversed_rows(views[0].size(0)))
        mix = kwargs.pop("mix", 0.3)
        *others, z_m = views
        return multiview_mixed_barlow_twins_loss(
            others, z_m, perm=perm, mix=mix, pairing=pairing, **kwargs
        )

    return loss


LOSSES: dict[str, tuple[int, LossOfViews]] = {
    "barlow_twins": (2, lambda views, **kwargs: barlow_twins_loss(*views, **kwargs)),
    "hsic_ssl": (2, lambda views, **kwargs: hsic_ssl_loss(*views, lamb=0.01, **kwargs)),
    "mixed_paper": (3, _mixed("paper")),
    "mixed_imagenet": (3, _mixed("imagenet-code")),
    "multiview_all": (3, multiview_barlow_twins_loss),
    "multiview_mean": (
        4,
        lambda views, **kwargs: multiview_barlow_twins_loss(views, pairing="mean", **kwargs),
    ),
    "multiview_pooled": (
        3,
        lambda views, **kwargs: multiview_barlow_twins_loss(views, pooled=True, **kwargs),
    ),
    "mixed_multiview_all": (4, _multiview_mixed("all")),
    "mixed_multiview_mean": (4, _multiview_mixed("mean")),
    "vicreg_all": (3, multiview_vicreg_loss),
    "vicreg_mean": (
        3,
        lambda views, **kwargs: multiview_vicreg_loss(views, pairing="mean", **kwargs),
    ),
}


def value_and_gradient(
    loss: LossOfViews, views: Sequence[Tensor], **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Loss, and its gradient for all views stacked (V, N, D)."""
    value = loss(views, **kwargs).loss
    return value.detach(), torch.stack(torch.autograd.grad(value, list(views)))
