"""How config keys are declared, and how a config is checked by what is declared.

A section of a config is a `Section`: a pydantic model whose fields are made by `setting`. That one
declaration gives the types, ranges, choices and defaults, the checks before training, what the
messages say, and the tables in the documentation.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from annotated_types import Ge, Gt, Le, Lt
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

MISSING = "???"
"""OmegaConf's mark of a value that must be given."""
REQUIRED: Any = ...
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
BOUNDS = {
    Ge: ("ge", "of at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
}
S = TypeVar("S", bound="Section")


class ConfigError(ValueError):
    """A deliberate refusal of what the user wrote; the text says what would be right."""


class MissingFileError(ConfigError, FileNotFoundError):
    """There is nothing at a path that the user gave."""


class MissingPackageError(ConfigError, ModuleNotFoundError):
    """What the user asks for needs a package that is not installed."""


class RunError(Exception):
    """What ends a run that began well; the text says why, and what to do."""


class Section(BaseModel):
    """A section of a config. Unknown keys are refused, and numbers that are not finite.

    The text of a number is that number (as ``${oc.env:LR}`` gives it), the text "None" is null, as
    in solo-learn, and null for a section are its defaults. A validator of a whole section raises
    ValueError with a text that begins with the key at fault, as it is called in the section.

    Attributes:
        refused: known keys of others that are refused here, with the reason.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    refused: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if value is None or value == "None":
            return {} if section_of(field) or get_origin(field.annotation) is dict else None
        takes_text = any(k is str or get_origin(k) is Literal for k in _kinds(field.annotation))
        return _from_text(value) if isinstance(value, str) and not takes_text else value


def setting(
    default: Any, help: str = "", *, source: str = "", expected: str = "", **limits: Any
) -> Any:
    """Declares one key.

    Args:
        default: its value where the config has none; `REQUIRED` where there is none.
        help: what it is, where a message or a page says so: of a key that must be given, or of a
            method. That of the others stands beside their defaults in the configs.
        source: where the default is from.
        expected: what would be right, where type and limits do not say it well.
        limits: pydantic's ``ge``, ``gt``, ``le``, ``lt``, ``min_length``, ``max_length``.

    Returns:
        A field of a `Section`.
    """
    words: Any = {"source": source, "expected": expected}
    return Field(default, description=help, json_schema_extra=words, **limits)


def section() -> Any:
    """Declares a key that is a `Section`: absent, it has that one's defaults."""
    return Field(default_factory=dict, validate_default=True)


def section_of(field: FieldInfo) -> type[Section] | None:
    """The `Section` that a field is, None of other fields."""
    kind = field.annotation
    return kind if _is_section(kind) else None


def check(
    declaration: type[S],
    given: Any,
    path: str = "",
    *,
    owner: str = "",
    names: Mapping[str, str] | None = None,
) -> S:
    """Checks what a config says in a section.

    Args:
        declaration: of the section.
        given: the section as plain data, without interpolations.
        path: the section's place in the config; empty for the whole config.
        owner: whose section it is, for the messages.
        names: what the user calls a place, such as ``{"augmentations[0]": "view"}``.

    Returns:
        The values, with defaults where none is given.

    Raises:
        ConfigError: unknown and missing keys, values of a wrong type or out of range: a line for
            each, which names the key as it can be overridden, the value and what would be right.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{path or 'config'}={given!r}: expected keys with values.")
    given = _without_missing(given)
    try:
        return declaration.model_validate(given)
    except ValidationError as error:
        lines = [line for one in error.errors() for line in _lines(declaration, given, one, owner)]
    text = "\n".join(dict.fromkeys(f"{path}.{line}" if path else line for line in lines))
    for place, name in (names or {}).items():
        text = text.replace(place, name)
    raise ConfigError("\n".join(dict.fromkeys(text.splitlines())))


def pipeline_names(cfg: DictConfig) -> list[str]:
    """What the user calls the entries of ``augmentations``.

    An entry ``${view}`` is overridden as ``view.<key>``; one that stands in the list itself cannot
    be overridden in Hydra, and is called ``augmentations[0]``.
    """
    entries = cfg.get("augmentations")
    if not isinstance(entries, ListConfig):
        return []
    written: Any = OmegaConf.to_container(entries, resolve=False)
    node = re.compile(r"\$\{([\w.]+)\}")
    matches = [node.fullmatch(entry) if isinstance(entry, str) else None for entry in written]
    return [match[1] if match else f"augmentations[{n}]" for n, match in enumerate(matches)]


def fill_in(cfg: DictConfig, declaration: type[Section]) -> None:
    """Gives the keys of a config that are absent their declared defaults, in place."""
    for key, field in declaration.model_fields.items():
        value, inner = cfg.get(key), section_of(field)
        if inner:
            if value is None:
                cfg[key] = {}
            fill_in(cfg[key], inner)
        elif isinstance(value, ListConfig) and (of_each := _entries(field)):
            for entry in value:
                fill_in(entry, of_each)
        elif (value is None and not field.is_required()) or value == "None":
            cfg[key] = None if field.is_required() else field.get_default(call_default_factory=True)


def _lines(declaration: type[Section], given: Any, error: Any, owner: str) -> Iterator[str]:
    """What an error of pydantic's means to the user."""
    names, field, value = _place(declaration, given, error["loc"])
    name = ".".join(names)
    if error["type"] == "extra_forbidden":
        inside = _section_at(declaration, error["loc"][:-1])
        key = str(error["loc"][-1])
        if key in inside.refused:
            yield f"{name}={value!r}: {inside.refused[key]}"
        else:
            whose = f" of {owner}" if owner else ""
            yield f"{name} is not a key{whose}: {_nearest(key, inside, declaration, owner)}"
    elif error["type"] == "missing" or (value is None and field and field.is_required()):
        where = f"; {owner} has no default for it" if owner else ""
        yield f"{name} is missing: {field.description}{where}."  # type: ignore[union-attr]
    elif error["type"] == "value_error" and (field is None or section_of(field)):
        for line in str(error["ctx"]["error"]).splitlines():
            yield f"{name}.{line}" if name else line
    else:
        yield f"{name}={value!r}: expected {expected(field)}."  # type: ignore[arg-type]


def _place(
    declaration: type[Section], given: Any, loc: tuple[int | str, ...]
) -> tuple[list[str], FieldInfo | None, Any]:
    """Names down to a key, its declaration and its value; ``loc`` may lead into the value."""
    names: list[str] = []
    field: FieldInfo | None = None
    inside: type[Section] | None = declaration
    for part in loc:
        if isinstance(part, int) and inside:
            names[-1] += f"[{part}]"
        elif inside:
            names.append(str(part))
            field = inside.model_fields.get(str(part))
            inside = _entries(field)
        else:
            break
        try:
            given = given[part]
        except (KeyError, TypeError):
            given = None
    return names, field, given


def _section_at(declaration: type[Section], loc: tuple[int | str, ...]) -> type[Section]:
    for part in loc:
        if isinstance(part, str):
            declaration = _entries(declaration.model_fields[part]) or declaration
    return declaration


def _entries(field: FieldInfo | None) -> type[Section] | None:
    """The `Section` that a field or its entries are."""
    for kind in _kinds(field.annotation) if field else ():
        for one in (kind, *get_args(kind)):
            if _is_section(one):
                return one
    return None


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    # Python 3.10 takes list[int] for a type.
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, Section)


def _nearest(key: str, inside: type[Section], everything: type[Section], owner: str) -> str:
    known = list(inside.model_fields)
    close = difflib.get_close_matches(key, known, n=1)
    elsewhere = [name for name in dotted(everything) if name.rpartition(".")[2] == key]
    if not close and elsewhere:
        close = elsewhere
    if not close:
        last = {name.rpartition(".")[2]: name for name in dotted(everything)}
        close = [last[name] for name in difflib.get_close_matches(key, last, n=1)]
    if close:
        return f"did you mean {close[0]}?"
    return f"{owner or 'its section'} knows {', '.join(known)}."


def dotted(declaration: type[Section], path: str = "") -> dict[str, FieldInfo]:
    """Every key of a declaration by its dotted name; sections are not keys themselves."""
    found: dict[str, FieldInfo] = {}
    for key, field in declaration.model_fields.items():
        inner = section_of(field)
        found |= dotted(inner, f"{path}{key}.") if inner else {f"{path}{key}": field}
    return found


def expected(field: FieldInfo) -> str:
    """What would be right for a key, in words."""
    said = dict(field.json_schema_extra or {}).get("expected")  # type: ignore[arg-type]
    return str(said) if said else _in_words(field.annotation, field.metadata)


def _in_words(annotation: Any, metadata: Any = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return " or ".join(_in_words(one, metadata) for one in arguments)
    if annotation is NoneType:
        return "null"
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(*arguments)
    if origin is list:
        return f"a list, each entry {_in_words(arguments[0])}"
    if annotation in (int, float):
        bounds = [
            f"{words} {getattr(bound, name):g}"
            for bound in metadata
            for kind, (name, words) in BOUNDS.items()
            if isinstance(bound, kind)
        ]
        return " ".join([WORDS[annotation], " and ".join(bounds)]).strip()
    return WORDS.get(annotation, "keys with values")


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of a union, without what annotates them."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _kinds(one)
    else:
        yield annotation


def _from_text(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def _without_missing(given: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: _without_missing(value) if isinstance(value, Mapping) else value
        for key, value in given.items()
        if not (isinstance(value, str) and value == MISSING)
    }


def flattened(content: Any, key: str = "") -> dict[str, Any]:
    """Plain data as its values by dotted key."""
    if not isinstance(content, dict):
        return {key: content}
    flat: dict[str, Any] = {}
    for name, inner in content.items():
        flat |= flattened(inner, f"{key}.{name}" if key else str(name))
    return flat


def plain(node: Any) -> Any:
    """A config's node as plain data, interpolations resolved; null is an empty section."""
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=True)
    return {} if node is None else node
