"""What a method gets by being a `ProjectorMethod`, with nothing declared of its own."""

from __future__ import annotations

import runpy
import warnings
from typing import Any

import torch
from torch import Tensor

from mixbt_plugin.methods import base
from mixbt_plugin.registry import register
from tests.configs import batch, method_config

register()


class Plain(base.ProjectorMethod):
    """Draws the embeddings of two views together."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = super().training_step(batch, batch_idx)
        z_a, z_b = out["z"]
        loss = (z_a - z_b).square().mean()
        self.log_terms({"plain_loss": loss})
        return loss + out["loss"]


def test_a_method_works_with_the_default_settings() -> None:
    model = Plain(method_config("plain"))
    logged: dict[str, Any] = {}
    model.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    loss = model.training_step(batch(), 0)
    loss.backward()
    assert torch.equal(loss, logged["train_plain_loss"] + logged["train_class_loss"])
    assert model.projector[0].weight.grad is not None


def test_importing_the_methods_silences_no_warning() -> None:
    before = list(warnings.filters)
    runpy.run_path(base.__file__)
    assert warnings.filters == before
