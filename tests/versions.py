"""What older versions, that ``setup.py`` takes too, cannot do; the others are tested."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version


def is_older(package: str, than: str) -> bool:
    """Whether the installed version of a package comes before another."""
    return Version(version(package)).release < Version(than).release


def since(package: str, first: str, reason: str) -> pytest.MarkDecorator:
    """Skips a test where an older version of a package is installed."""
    return pytest.mark.skipif(is_older(package, first), reason=f"{package} {first}: {reason}")
