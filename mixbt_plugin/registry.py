"""Methods by name: `register_method` on a class, `register` to put them all into the host.

A package of somebody else adds methods by an entry point of the group ``mixbt_plugin.methods`` that
names the module with its classes. Importing this module is cheap; `list_methods` and `register`
import the host and the methods.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

Method = TypeVar("Method", bound=type[Any])
ENTRY_POINTS = "mixbt_plugin.methods"
OWN_METHODS = "mixbt_plugin.methods"


@dataclass(frozen=True)
class MethodInfo:
    """A registered method.

    Attributes:
        name: what a config's ``method`` says.
        method: its class.
        paper: its arXiv number, empty where there is none.
        min_views: fewest views of an image that it takes.
        max_views: most views, None for any number.
        baseline: whether it only fills in where the host has none of this name.
    """

    name: str
    method: type[Any]
    paper: str
    min_views: int
    max_views: int | None
    baseline: bool

    @property
    def views(self) -> str:
        """Which numbers of views it takes, such as ``2`` or ``>= 2``."""
        if self.max_views is None:
            return f">= {self.min_views}"
        few, many = self.min_views, self.max_views
        return str(few) if few == many else f"{few} to {many}"

    @property
    def summary(self) -> str:
        """The first line of the class's docstring, without its full stop."""
        return (self.method.__doc__ or "").strip().partition("\n")[0].removesuffix(".")


_registered: dict[str, MethodInfo] = {}


def register_method(
    name: str,
    *,
    paper: str = "",
    views: int | tuple[int, int | None] = 2,
    baseline: bool = False,
) -> Callable[[Method], Method]:
    """Makes a class known as a method; everything else asks the class.

    Args:
        name: what a config's ``method`` shall say.
        paper: its arXiv number.
        views: how many views it takes, or the fewest and the most; None as the most is any number.
            They become ``min_views`` and ``max_views`` of the class.
        baseline: leave the name to the host where that has it.

    Returns:
        A decorator of a class on the host's ``BaseMethod``, such as `ProjectorMethod`.

    Raises:
        ValueError: another class has the name already.
    """

    def decorate(method: Method) -> Method:
        taken = _registered.get(name)
        if taken and not _same(taken.method, method):
            raise ValueError(f"the method name {name!r} is taken by {_path(taken.method)}.")
        method.min_views, method.max_views = (views, views) if isinstance(views, int) else views
        _registered[name] = MethodInfo(
            name, method, paper, method.min_views, method.max_views, baseline
        )
        return method

    return decorate


def list_methods(*, baselines: bool = False) -> tuple[MethodInfo, ...]:
    """The methods of this plugin and of packages that extend it, in the order of registration.

    Args:
        baselines: also those that fill in where the host has none.
    """
    import_module(OWN_METHODS)
    for entry_point in entry_points(group=ENTRY_POINTS):
        try:
            entry_point.load()
        except Exception as error:
            warnings.warn(
                f"mixbt_plugin: the methods of {entry_point.value} are left out "
                f"({type(error).__name__}: {error}).",
                stacklevel=2,
            )
    return tuple(info for info in _registered.values() if baselines or not info.baseline)


def methods_for_more_views() -> str:
    """The methods that take any number of views, as a message names them."""
    *names, last = (info.name for info in list_methods() if info.max_views is None)
    return f"{', '.join(names)} or {last}"


def register() -> None:
    """Puts the methods and the backbones into the host's registries.

    Idempotent. A name that something else has taken is left to it, with a warning.
    """
    from mixbt_plugin.backbones import BACKBONES
    from mixbt_plugin.host import METHODS, BaseMethod

    for info in list_methods(baselines=True):
        if not (info.baseline and info.name in METHODS):
            _add(METHODS, info.name, info.method, "method")
    for name, constructor in BACKBONES.items():
        _add(BaseMethod._BACKBONES, name, constructor, "backbone")


def _add(registered: dict[str, Any], name: str, value: Any, kind: str) -> None:
    present = registered.setdefault(name, value)
    if not _same(present, value):
        warnings.warn(
            f"mixbt_plugin: the {kind} {name!r} is already taken by {_path(present)} and is left "
            "to it.",
            stacklevel=3,
        )


def _same(one: Any, other: Any) -> bool:
    return _path(one) == _path(other)


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
