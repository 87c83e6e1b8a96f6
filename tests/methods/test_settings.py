"""method_kwargs: what is refused, before anything is built, and with which words."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from mixbt_plugin.host import METHODS
from mixbt_plugin.methods import MixedBarlowTwins
from mixbt_plugin.methods.method_settings import parse_settings
from mixbt_plugin.registry import list_methods, register
from tests.configs import PROJECTOR, method_config

register()


@pytest.mark.parametrize(
    "method,kwargs,message",
    [
        ("mixbt", {"lambd": 1.0}, "method_kwargs.lambd is not a key of mixbt: did you mean lamb"),
        ("mixbt", {"zzz": 1.0}, "method_kwargs.zzz is not a key of mixbt: mixbt knows proj_hid"),
        ("mixbt", {"lamb": "much"}, "method_kwargs.lamb='much': expected a number"),
        ("mixbt", {"lamb": -1}, "method_kwargs.lamb=-1: expected a number of at least 0"),
        (
            "mixbt",
            {"lamb": float("nan")},
            "method_kwargs.lamb=nan: expected a number of",
        ),
        ("mixbt", {"mix_alpha": 0}, "method_kwargs.mix_alpha=0: expected a number above 0"),
        ("mixbt", {"target": "code"}, "method_kwargs.target='code': expected one of paper, im"),
        (
            "mixbt",
            {"proj_num_layers": 0},
            "proj_num_layers=0: expected a whole number of",
        ),
        ("mixbt", {"proj_output_dim": 1.5}, "proj_output_dim=1.5: expected a whole number"),
        ("hsic_ssl", {"impl": "fast"}, "impl='fast': expected one of auto, gram, dense"),
        ("multiaug_barlow_twins", {"pairing": "some"}, "pairing='some': expected one of all, mean"),
        ("multiaug_vicreg", {"var_loss_weight": None}, "var_loss_weight=None: expected a number"),
    ],
)
def test_bad_values(method: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="method_kwargs") as caught:
        METHODS[method](method_config(method, kwargs))
    assert message in str(caught.value)


@pytest.mark.parametrize("key", PROJECTOR)
def test_missing_value(key: str) -> None:
    cfg = method_config("mixbt")
    del cfg.method_kwargs[key]
    with pytest.raises(ValueError, match=f"method_kwargs.{key} is missing"):
        METHODS["mixbt"](cfg)


@pytest.mark.parametrize(
    "method,large,small,message",
    [
        ("mixbt", 4, 0, "4 view.s. found .4 large, 0 small crops.; mixbt takes 2 of one crop_size"),
        ("mixbt", 2, 2, "mixbt takes 2 of one crop_size"),
        ("hsic_ssl", 1, 0, "hsic_ssl needs at least 2"),
        ("multiaug_vicreg", 1, 0, "multiaug_vicreg needs at least 2"),
    ],
)
def test_number_of_views(method: str, large: int, small: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METHODS[method](method_config(method, large=large, small=small))


@pytest.mark.parametrize("info", list_methods(), ids=lambda info: info.name)
def test_every_key_is_documented(info: Any) -> None:
    for name, field in info.method.Settings.model_fields.items():
        assert field.description, name
        assert field.json_schema_extra["source"], name


@pytest.mark.parametrize("info", list_methods(), ids=lambda info: info.name)
def test_defaults_are_written_into_the_config(info: Any) -> None:
    model = METHODS[info.name](method_config(info.name))
    assert set(model.cfg.method_kwargs) == set(info.method.Settings.model_fields)
    again = parse_settings(info.method.Settings, model.cfg.method_kwargs, info.name)
    assert again == model.settings


def test_numbers_given_as_text_are_numbers() -> None:
    settings = parse_settings(
        MixedBarlowTwins.Settings,
        OmegaConf.create({**PROJECTOR, "lamb": "0.5", "lamb_reg": 2}),
        "mixbt",
    )
    assert (settings.lamb, settings.lamb_reg) == (0.5, 2.0)
