"""The losses' modules return what the functions return."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixbt_plugin import losses
from mixbt_plugin.losses.modules import LossModule

N, D = 6, 4
Z_A, Z_B, Z_M = torch.randn(3, N, D, generator=torch.Generator().manual_seed(0))
MIXED = {"perm": torch.arange(N).flip(0), "mix": 0.3}
CASES: list[tuple[type[LossModule], dict[str, Any], tuple[Any, ...], dict[str, Any]]] = [
    (losses.BarlowTwinsLoss, {"lamb": 0.1}, (Z_A, Z_B), {}),
    (losses.HSICSSLLoss, {"lamb": 0.25}, (Z_A, Z_B), {}),
    (losses.MixedBarlowTwinsLoss, {"lamb_reg": 4.0}, (Z_A, Z_B, Z_M), MIXED),
    (losses.MultiViewBarlowTwinsLoss, {"pairing": "mean"}, ([Z_A, Z_B, Z_M],), {}),
    (losses.MultiViewMixedBarlowTwinsLoss, {"eps": 0.0}, ([Z_A, Z_B], Z_M), MIXED),
    (losses.MultiViewVICRegLoss, {"cov_loss_weight": 2.0}, ([Z_A, Z_B, Z_M],), {}),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0].__name__ for case in CASES])
def test_a_module_is_its_function(case: Any) -> None:
    module, settings, embeddings, of_a_batch = case
    expected = module.function(*embeddings, **of_a_batch, **settings)
    criterion = module(**settings)
    assert criterion(*embeddings, **of_a_batch) == expected.loss
    assert criterion.terms(*embeddings, **of_a_batch) == expected


def test_every_function_has_a_module() -> None:
    functions = {getattr(losses, name) for name in losses.__all__ if name.endswith("_loss")}
    assert {case[0].function for case in CASES} == functions


def test_an_unknown_setting_is_refused_when_the_module_is_made() -> None:
    with pytest.raises(TypeError, match=r"BarlowTwinsLoss has no lambda_param: it has lamb, "):
        losses.BarlowTwinsLoss(lambda_param=0.005)


def test_a_missing_setting_is_asked_for_when_the_module_is_made() -> None:
    with pytest.raises(TypeError, match="HSICSSLLoss needs lamb"):
        losses.HSICSSLLoss()


def test_settings_are_shown() -> None:
    assert repr(losses.BarlowTwinsLoss(lamb=0.1)) == "BarlowTwinsLoss(lamb=0.1)"
