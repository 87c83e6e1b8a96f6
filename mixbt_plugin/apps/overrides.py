"""Overrides that Hydra refuses: paths that its grammar does not take, keys that are new."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

PATH_KEYS = (
    *("resume_from_checkpoint", "pretrained_checkpoint", "pretrained_feature_extractor"),
    *("train_path", "val_path", "train_subset", "dir", "output_dir", "folder", "config_path"),
)
"""Keys whose values are paths, by the last word of their dotted names."""
MULTIRUN_FLAGS = ("--multirun", "-m")
T = TypeVar("T")


def with_quoted_paths(words: list[str]) -> list[str]:
    """Puts quotes around the paths that Hydra would not read as one text.

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


def _quoted(word: str, multirun: bool) -> str:
    key, equals, value = word.partition("=")
    if not equals or key.startswith("-") or key.rpartition(".")[2].lstrip("+") not in PATH_KEYS:
        return word
    parts = value.split(",") if multirun else [value]
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
