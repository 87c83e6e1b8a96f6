"""Which host is there: a solo-learn checkout, or the embedded stand-in.

Only files are looked at; nothing of solo-learn is imported here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mixbt_plugin.settings import ConfigError

HOST_VARIABLE = "MIXBT_HOST"
CHECKOUT_HINT = (
    "put a checkout of github.com/vturrisi/solo-learn on PYTHONPATH, with "
    '"setuptools<81" "torchmetrics<0.12" einops wandb tqdm scipy installed'
)


class HostError(ConfigError):
    """The host that was asked for is not usable; says what would make it so."""


@dataclass(frozen=True)
class Host:
    """The host in use.

    Attributes:
        name: ``"solo-learn"`` or ``"embedded"``.
        version: of solo-learn, or of this plugin for the stand-in.
        path: folder of the imported package, None for the stand-in.
        note: why a solo-learn that was found is not used, or None.
    """

    name: str
    version: str
    path: Path | None = None
    note: str | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the stand-in is used."""
        return self.name == "embedded"

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"{self.name} {self.version}{place}"


def detect() -> Host:
    """Finds the host.

    The environment variable ``MIXBT_HOST`` forces ``embedded`` or ``solo-learn``; without it
    solo-learn is taken where it is usable.

    Returns:
        The host.

    Raises:
        HostError: ``MIXBT_HOST`` asks for something that is not there.
    """
    wanted = os.environ.get(HOST_VARIABLE, "")
    if wanted not in ("", "embedded", "solo-learn"):
        raise HostError(f"{HOST_VARIABLE}={wanted!r}: expected 'embedded' or 'solo-learn'.")
    embedded = Host("embedded", _version_of("mixbt-plugin") or "not installed")
    if wanted == "embedded":
        return embedded
    folder = _solo_learn_folder()
    if folder is None:
        if wanted:
            raise HostError(
                f"{HOST_VARIABLE}=solo-learn, but it is not importable: {CHECKOUT_HINT}."
            )
        return embedded
    version = _solo_learn_version(folder)
    if not (folder / "args" / "pretrain.py").exists():
        note = (
            f"solo-learn {version} at {folder} has no Hydra configuration (PyPI's newest, 1.0.2, "
            f"is of 2021) and is not used: {CHECKOUT_HINT}."
        )
        if wanted:
            raise HostError(note)
        return Host("embedded", embedded.version, note=note)
    return Host("solo-learn", version, folder)


def _solo_learn_folder() -> Path | None:
    spec = find_spec("solo")
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / "methods" / "base.py").exists():
            return Path(location)
    return None


def _solo_learn_version(folder: Path) -> str:
    setup = folder.parent / "setup.py"
    stated = re.search(r'version="([^"]+)"', setup.read_text()) if setup.exists() else None
    return stated[1] if stated else _version_of("solo-learn") or "of unknown version"


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
