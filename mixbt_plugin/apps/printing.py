"""What the commands print while they work."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def say(what: str, text: object) -> None:
    """Prints a line under a heading of one word, on one process."""
    print(f"{what:9} {text}")
