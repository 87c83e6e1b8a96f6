"""Overrides that Hydra refuses, and overrides that it takes but nobody reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.settings import ConfigError

PATH_KEYS = (
    *("resume_from_checkpoint", "pretrained_checkpoint", "pretrained_feature_extractor"),
    *("train_path", "val_path", "train_subset", "dir", "output_dir", "folder", "config_path"),
)
"""Keys whose values are paths, by the last word of their dotted names. ``images`` is one where it
stands by itself."""
RECIPE_KEYS = ("view", "second_view", "further_views", "lambs", "mus", "half_mus")
"""What shipped recipes name for themselves and interpolate from. An override of the key that reads
one, such as ``method_kwargs.lamb``, leaves it over."""
MULTIRUN_FLAGS = ("--multirun", "-m")
T = TypeVar("T")


def with_quoted_paths(words: list[str]) -> list[str]:
    """Writes out ``~/`` in paths, and quotes those that Hydra would not read as one text.

    Such as ``pretrained_checkpoint=x-ep=1.ckpt``, as solo-learn calls its files, or one with
    brackets or a comma. With ``--multirun`` a comma separates paths, as for any other key.

    Args:
        words: of the command line.

    Returns:
        The words, as many.
    """
    multirun = not set(words).isdisjoint(MULTIRUN_FLAGS)
    return [_quoted(word, multirun) for word in words]


def adding_new_keys(compose: Callable[[list[str]], T], words: list[str]) -> T:
    """Composes a config whose overrides need no plus where it does not hold the key yet.

    Whether that is a key is then for the command to check, as for all others.

    Args:
        compose: by overrides.
        words: of the command line.

    Returns:
        What ``compose`` does.

    Raises:
        HydraException: the config cannot be composed for another reason.
    """
    while True:
        try:
            return compose(words)
        except HydraException as error:
            refused = re.match(r"Could not override '(.+?)'\.", str(error))
            new = {word for word in words if refused and word.startswith(f"{refused[1]}=")}
            if not new:
                raise
            words = [f"++{word}" if word in new else word for word in words]


def refuse_unread(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses overrides of what a recipe names for itself where no key takes it any more.

    Args:
        cfg: composed of these overrides, not resolved.
        overrides: in Hydra's grammar.

    Raises:
        ConfigError: names one, such as ``view.crop_size=24`` where ``augmentations`` is given.
    """
    written: dict[str, object] = OmegaConf.to_container(cfg, resolve=False)  # type: ignore[assignment]
    left_over: list[str] = []
    while unread := [key for key in RECIPE_KEYS if key in written and not mentions(written, key)]:
        left_over += unread
        written = {key: value for key, value in written.items() if key not in unread}
    for word in overrides:
        key = first_key(word)
        if key in left_over:
            raise ConfigError(
                f"{word}: nothing reads {key} any more, since the key that takes ${{{key}}} is "
                "overridden too; expected one of both overrides."
            )


def in_words(error: Exception) -> str:
    """What an error says, with the override that Hydra could not parse."""
    override = getattr(error, "override", "")
    return f"{override}: {error}" if override else str(error)


def first_key(override: str) -> str:
    """What an override changes, or the section in which it does."""
    return re.split(r"[.=]", override.lstrip("+~"), maxsplit=1)[0]


def mentions(written: object, name: str) -> bool:
    """Whether a key of a config, not resolved, is interpolated from one of this name."""
    if isinstance(written, dict):
        return any(mentions(value, name) for value in written.values())
    if isinstance(written, list):
        return any(mentions(value, name) for value in written)
    return isinstance(written, str) and bool(re.search(rf"\$\{{.*\b{re.escape(name)}\b", written))


def _quoted(word: str, multirun: bool) -> str:
    key, equals, value = word.partition("=")
    name = key.lstrip("+")
    is_path = name == "images" or name.rpartition(".")[2] in PATH_KEYS
    if not equals or key.startswith("-") or not is_path:
        return word
    parts = value.split(",") if multirun else [value]
    parts = [os.path.expanduser(part) for part in parts]
    word = f"{key}={','.join(parts)}"
    if _is_read_well(word, multirun) or any(part[:1] in ("'", '"') for part in parts):
        return word
    return f"{key}=" + ",".join("'" + part.replace("'", "\\'") + "'" for part in parts)


def _is_read_well(word: str, multirun: bool) -> bool:
    """Whether Hydra reads a text or null, or several of them to go through."""
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(word)
        if override.is_sweep_override():
            return multirun
        value: Any = override.value()
    except HydraException:
        return False
    return value is None or isinstance(value, str)
