"""What the plugin registers into the host, and what each method is.

Importing this module is cheap; `register` imports the host and the methods.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class MethodInfo:
    """A registered method.

    Attributes:
        name: what a config's ``method`` says.
        class_name: of the class in `mixbt_plugin.methods`.
        paper: its arXiv number.
        views: which numbers of views it takes.
        summary: one line.
    """

    name: str
    class_name: str
    paper: str
    views: str
    summary: str

    def load(self) -> type[Any]:
        """The class."""
        loaded: type[Any] = getattr(import_module("mixbt_plugin.methods"), self.class_name)
        return loaded


_METHODS = (
    MethodInfo(
        "mixbt",
        "MixedBarlowTwins",
        "2312.02151",
        "2",
        "Barlow Twins with a regulariser on linearly mixed images",
    ),
    MethodInfo(
        "multiaug_barlow_twins",
        "MultiAugBarlowTwins",
        "2312.10725",
        ">= 2",
        "Barlow Twins over several views per image",
    ),
    MethodInfo(
        "multiaug_vicreg",
        "MultiAugVICReg",
        "2312.10725",
        ">= 2",
        "VICReg over several views per image",
    ),
    MethodInfo(
        "hsic_ssl",
        "HSICSSL",
        "2104.13712",
        "2",
        "Barlow Twins whose off-diagonal entries are drawn to -1",
    ),
)
_BASELINES = (
    MethodInfo("barlow_twins", "BarlowTwins", "2103.03230", "2", "solo-learn's Barlow Twins"),
    MethodInfo("vicreg", "VICReg", "2105.04906", "2", "solo-learn's VICReg"),
)


def list_methods(*, baselines: bool = False) -> tuple[MethodInfo, ...]:
    """The methods that this plugin brings, and on demand the baselines beside them."""
    return (*_METHODS, *_BASELINES) if baselines else _METHODS


def register() -> None:
    """Puts the methods and the backbones into the host's registries.

    Idempotent. A name that something else has taken is left to it, with a warning. The baselines
    fill in where the host has none.
    """
    from mixbt_plugin.backbones import BACKBONES
    from mixbt_plugin.host import METHODS, BaseMethod

    for info in _BASELINES:
        if info.name not in METHODS:
            METHODS[info.name] = info.load()
    for info in _METHODS:
        _add(METHODS, info.name, info.load(), "method")
    for name, constructor in BACKBONES.items():
        _add(BaseMethod._BACKBONES, name, constructor, "backbone")


def _add(registered: dict[str, Any], name: str, value: Any, kind: str) -> None:
    present = registered.setdefault(name, value)
    same = (present.__module__, present.__qualname__) == (value.__module__, value.__qualname__)
    if not same:
        warnings.warn(
            f"mixbt_plugin: the {kind} {name!r} is already taken by "
            f"{present.__module__}.{present.__qualname__} and is left to it.",
            stacklevel=3,
        )
