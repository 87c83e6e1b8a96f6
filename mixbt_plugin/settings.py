"""Declarations of config keys: their types, ranges, defaults and sources, and the checks by them.

A section of a config is declared as a dataclass whose fields are made by `setting`; a field whose
type is such a dataclass is a section in it. That one declaration gives the defaults, the checks
before training, and the tables in the documentation.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

REQUIRED = "???"
"""OmegaConf's mark of a value that must be given."""


def setting(
    default: Any = REQUIRED,
    *,
    help: str = "",
    source: str = "",
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[Any] = (),
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declares one key.

    Args:
        default: its value where the config has none; the key is required without one.
        help: what it is, for the documentation.
        source: where the default is from.
        low: smallest value allowed.
        above: value that must be exceeded.
        high: largest value allowed.
        choices: the values allowed, where they are names.
        check: for what the others cannot say; gives what would be right of a wrong value, None of
            a right one.

    Returns:
        A dataclass field.
    """
    metadata = {"help": help, "source": source, "low": low, "above": above, "high": high}
    return field(default=default, metadata={**metadata, "choices": choices, "check": check})


def check_section(
    declaration: type[Any],
    given: Any,
    path: str = "",
    *,
    owner: str = "",
    open_to: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Checks what a config says in a section.

    Args:
        declaration: dataclass of `setting` fields.
        given: the section, without interpolations.
        path: the section's place in the config, for the messages; empty for the whole config.
        owner: whose section it is, for the messages.
        open_to: None refuses all other keys. A list makes the section and those in it open to other
            keys, and refuses only what nearly is a declared one and is not in the list.

    Returns:
        The given values in their declared types. Defaults are not filled in.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or out of range; names
            the key, the value and what would be right.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{path or 'config'}={given!r}: expected keys with values.")
    declared = {declared.name: declared for declared in fields(declaration)}
    _refuse_unknown(given, list(declared), path, owner, open_to)
    types = get_type_hints(declaration)
    checked = dict(given)
    for key, one in declared.items():
        name = _join(path, key)
        if key not in given or given[key] == REQUIRED:
            if one.default == REQUIRED:
                where = f"; {owner} has no default for it" if owner else ""
                raise ValueError(f"{name} is missing: {one.metadata['help'] or key}{where}.")
        elif is_dataclass(types[key]):
            checked[key] = check_section(types[key], given[key], name, open_to=open_to)
        else:
            checked[key] = _converted(types[key], given[key], name)
            _check_range(name, checked[key], one.metadata)
    return checked


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _refuse_unknown(
    given: Mapping[Any, Any],
    known: Sequence[str],
    path: str,
    owner: str,
    open_to: Sequence[str] | None,
) -> None:
    for key in given:
        if key in known or (open_to is not None and key in open_to):
            continue
        cutoff = 0.6 if open_to is None else 0.8
        close = difflib.get_close_matches(str(key), known, n=1, cutoff=cutoff)
        if close or open_to is None:
            hint = f"did you mean {close[0]}?" if close else f"{owner} knows {', '.join(known)}."
            raise ValueError(f"{_join(path, key)} is not a key{owner and f' of {owner}'}: {hint}")


def _converted(kind: Any, value: Any, name: str) -> Any:
    structured = OmegaConf.structured(_section_of_one(kind))
    try:
        structured.key = value
    except OmegaConfBaseException as error:
        expected = kind.__name__ if isinstance(kind, type) else str(kind)
        raise ValueError(f"{name}={value!r}: expected {expected}.") from error
    return OmegaConf.to_container(structured)["key"]  # type: ignore[call-overload, index]


@cache
def _section_of_one(kind: Any) -> type[Any]:
    return make_dataclass("Section", [("key", kind, REQUIRED)])


def _check_range(name: str, value: Any, allowed: Mapping[str, Any]) -> None:
    expected = allowed["check"](value) if allowed["check"] else None
    if allowed["choices"] and value not in allowed["choices"] and value is not None:
        expected = f"one of {', '.join(map(str, allowed['choices']))}"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            expected = "a finite number"
        elif value < allowed["low"]:
            expected = f"at least {allowed['low']:g}"
        elif value <= allowed["above"]:
            expected = f"more than {allowed['above']:g}"
        elif value > allowed["high"]:
            expected = f"at most {allowed['high']:g}"
    if expected:
        raise ValueError(f"{name}={value!r}: expected {expected}.")
