"""Image files, and what happens with those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image


class UnreadableImageError(ValueError):
    """An image file that cannot be decoded; the message names it."""


def read_image(file: str | Path | BinaryIO, name: str | Path) -> Any:
    """A PIL image in RGB.

    Args:
        file: path, or an open file.
        name: what an error calls it.

    Raises:
        UnreadableImageError: it cannot be decoded to its end.
    """
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    # Pillow raises OSError, SyntaxError, ValueError, struct.error, … by format and damage.
    except Exception as error:
        raise UnreadableImageError(
            f"{name}: cannot be read ({type(error).__name__}: {error}). Replace or remove the "
            "file, or set data.unreadable=skip to train without such files."
        ) from error
