"""Values and gradients that the official codes return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixbt_plugin.losses import (
    barlow_twins_loss,
    hsic_ssl_loss,
    mixed_barlow_twins_loss,
    multiview_barlow_twins_loss,
    multiview_vicreg_loss,
)
from tests.embeddings import reference_views

REFERENCE = Path(__file__).parents[1] / "data" / "reference_values.json"
CASES = json.loads(REFERENCE.read_text())["cases"]
OFFICIAL_STANDARDIZATION: dict[str, Any] = {"unbiased": True, "eps": 0.0}


def our_loss(case: dict[str, Any], views: list[Tensor], impl: Any) -> Any:
    source, params = case["source"], case["params"]
    lamb = params.get("lambda_bt")
    if source.startswith("mix-bt"):
        return mixed_barlow_twins_loss(
            *views,
            perm=torch.tensor(params["perm"]),
            mix=params["mix"],
            lamb=lamb,
            lamb_reg=params["lambda_reg"],
            target="imagenet-code" if "imagenet" in source else "paper",
            impl=impl,
            **OFFICIAL_STANDARDIZATION,
        )
    if source.startswith("Barlow-Twins-HSIC"):
        loss = hsic_ssl_loss if "neg_one" in source else barlow_twins_loss
        return loss(*views, lamb=lamb, impl=impl, **OFFICIAL_STANDARDIZATION)
    if source.startswith("barlowtwins"):
        return barlow_twins_loss(*views, lamb=lamb, impl=impl)
    if source == "solo-learn barlow_loss_func":
        return barlow_twins_loss(*views, impl=impl, **params)
    if source.startswith("solo-learn vicreg_loss_func"):
        weights = {f"{term}_loss_weight": weight for term, weight in params.items()}
        return multiview_vicreg_loss(views, impl=impl, **weights)
    if source.startswith("fastssl"):
        return multiview_barlow_twins_loss(
            views,
            lamb=lamb,
            pooled=True,
            pairing="mean" if len(views) > 2 else "all",
            impl=impl,
            **OFFICIAL_STANDARDIZATION,
        )
    raise AssertionError(f"no loss for {source}")


@pytest.mark.parametrize("impl", ["gram", "dense", "auto"])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['source'][:24]}-{c['n']}x{c['d']}")
def test_value_and_gradient(
    case: dict[str, Any], dtype: torch.dtype, tolerance: float, impl: Any
) -> None:
    inputs = reference_views(case["n"], case["d"])
    views = [inputs[name].to(dtype).requires_grad_() for name in case["views"].split(", ")]
    result = our_loss(case, views, impl)
    gradient = torch.stack(torch.autograd.grad(result.loss, views)).double()

    expected = torch.tensor(case["grad"], dtype=torch.float64).view_as(gradient)
    assert result.loss.dtype == dtype
    assert result.loss.item() == pytest.approx(case["loss"], rel=tolerance)
    assert (gradient - expected).norm() <= tolerance * expected.norm()
    if "loss_reg" in case:
        assert result.barlow_twins.item() == pytest.approx(case["loss_bt"], rel=tolerance)
        assert result.regularizer.item() == pytest.approx(case["loss_reg"], rel=10 * tolerance)
