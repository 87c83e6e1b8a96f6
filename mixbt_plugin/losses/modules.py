"""The losses as modules, for loops that make their criterion once and call it with embeddings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import Any, ClassVar

from torch import Tensor, nn

from mixbt_plugin.losses.barlow_twins import barlow_twins_loss
from mixbt_plugin.losses.hsic_ssl import hsic_ssl_loss
from mixbt_plugin.losses.mixed_barlow_twins import mixed_barlow_twins_loss
from mixbt_plugin.losses.multiview_barlow_twins import multiview_barlow_twins_loss
from mixbt_plugin.losses.multiview_mixed_barlow_twins import multiview_mixed_barlow_twins_loss
from mixbt_plugin.losses.multiview_vicreg import multiview_vicreg_loss

OF_A_BATCH = {"perm", "mix"}
"""Keyword arguments of a loss that are given with the embeddings."""


class LossModule(nn.Module):
    """A function of `mixbt_plugin.losses` as a module.

    Called with the function's embeddings (and ``perm`` and ``mix`` where it has them), it returns
    the loss, 0-dim. `terms` returns the function's named tuple. It has no parameters, no buffers.

    Attributes:
        function: the loss.

    Args:
        settings: keyword arguments of the function, ``lamb`` and the like, with its defaults.

    Raises:
        TypeError: the function has no such argument, or needs one that is missing.
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        known = {
            name: argument
            for name, argument in signature(self.function).parameters.items()
            if argument.kind is Parameter.KEYWORD_ONLY and name not in OF_A_BATCH
        }
        name = type(self).__name__
        if unknown := settings.keys() - known.keys():
            raise TypeError(
                f"{name} has no {', '.join(sorted(unknown))}: it has {', '.join(known)}"
            )
        needed = [key for key, argument in known.items() if argument.default is Parameter.empty]
        if missing := [key for key in needed if key not in settings]:
            raise TypeError(f"{name} needs {', '.join(missing)}")
        self.settings = settings

    def terms(self, *embeddings: Any, **of_a_batch: Any) -> Any:
        """The function's named tuple: the loss and its terms."""
        return partial(self.function, **self.settings)(*embeddings, **of_a_batch)

    def forward(self, *embeddings: Any, **of_a_batch: Any) -> Tensor:
        """The loss, 0-dim."""
        loss: Tensor = self.terms(*embeddings, **of_a_batch).loss
        return loss

    def extra_repr(self) -> str:
        """The settings that are not the function's defaults."""
        return ", ".join(f"{key}={value!r}" for key, value in self.settings.items())


class BarlowTwinsLoss(LossModule):
    """`barlow_twins_loss` as a module, called with ``(z_a, z_b)``.

    Example:
        >>> import torch
        >>> criterion = BarlowTwinsLoss(lamb=0.005)
        >>> criterion
        BarlowTwinsLoss(lamb=0.005)
        >>> criterion(torch.randn(8, 16), torch.randn(8, 16)).shape
        torch.Size([])
    """

    function = staticmethod(barlow_twins_loss)


class HSICSSLLoss(LossModule):
    """`hsic_ssl_loss` as a module, called with ``(z_a, z_b)``; made with ``lamb``, say 1 / D."""

    function = staticmethod(hsic_ssl_loss)


class MixedBarlowTwinsLoss(LossModule):
    """`mixed_barlow_twins_loss` as a module, called with ``(z_a, z_b, z_m, perm=…, mix=…)``."""

    function = staticmethod(mixed_barlow_twins_loss)


class MultiViewBarlowTwinsLoss(LossModule):
    """`multiview_barlow_twins_loss` as a module, called with a sequence of views."""

    function = staticmethod(multiview_barlow_twins_loss)


class MultiViewMixedBarlowTwinsLoss(LossModule):
    """`multiview_mixed_barlow_twins_loss` as a module, called ``(views, z_m, perm=…, mix=…)``."""

    function = staticmethod(multiview_mixed_barlow_twins_loss)


class MultiViewVICRegLoss(LossModule):
    """`multiview_vicreg_loss` as a module, called with a sequence of views."""

    function = staticmethod(multiview_vicreg_loss)
