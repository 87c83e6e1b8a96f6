"""The example that mixes a part of the batch, beside ``mixbt``, which mixes all of it."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin import registry
from mixbt_plugin.apps.comparison.arms import composed_arm, parsed
from mixbt_plugin.apps.schema import checked_comparison
from mixbt_plugin.methods import MixedBarlowTwins
from tests.apps.composing import composed
from tests.configs import batch, method_config
from tests.recipes.shipped import built

registry.register()

EXAMPLE = Path(__file__).parents[2] / "examples" / "mixed_share"


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's class, known as a method to this test alone."""
    registry.list_methods()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.delitem(sys.modules, "mixed_share", raising=False)
    return import_module("mixed_share").MixedShare


def stepped(method: Any, name: str, **kwargs: Any) -> tuple[dict[str, float], list[int]]:
    """The terms that a step logs, and how many images each forward saw."""
    torch.manual_seed(0)
    model = method(method_config(name, {"lamb_reg": 4.0, **kwargs})).double()
    logged: dict[str, float] = {}
    model.log_dict = lambda values, **_: logged.update(values)
    seen: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    index, views, targets = batch()
    model.training_step([index, [view.double() for view in views], targets], 0)
    return {key: float(logged[f"train_{key}"]) for key in ("barlow_loss", "reg_loss")}, seen


def test_with_all_images_it_is_mixbt(method: Any) -> None:
    found, seen = stepped(method, "mixed_share", mix_share=1.0)
    expected, seen_by_mixbt = stepped(MixedBarlowTwins, "mixbt")
    assert found == pytest.approx(expected, rel=1e-12)
    assert seen == seen_by_mixbt == [8, 8, 8]


def test_with_half_the_third_forward_is_half_as_long_and_barlow_twins_is_whole(method: Any) -> None:
    found, seen = stepped(method, "mixed_share", mix_share=0.5)
    whole, _ = stepped(MixedBarlowTwins, "mixbt")
    assert seen == [8, 8, 4]
    assert found["barlow_loss"] == pytest.approx(whole["barlow_loss"], rel=1e-12)
    assert found["reg_loss"] > 0


def test_every_arm_of_its_comparison_composes_and_builds(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])  # the comparison names the recipe from there
    comparison = checked_comparison(composed(EXAMPLE / "configs" / "overfitting_1000.yaml"))
    shares = {}
    for name in comparison.arms:
        cfg = parsed(composed_arm(comparison.arm(name), comparison))
        if cfg.method == "mixed_share":
            assert isinstance(built(cfg), method)
            shares[name] = cfg.method_kwargs.mix_share
    assert shares == {"mixed_half": 0.5, "mixed_quarter": 0.25}
