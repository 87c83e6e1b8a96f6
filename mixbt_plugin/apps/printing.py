"""What the commands print while they work."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def say(what: str, text: object) -> None:
    """Prints a line under a heading of one word, on one process."""
    print(f"{what:9} {text}")


def say_done(folder: Path) -> None:
    """Prints where a run is; the working folder stands for nowhere."""
    say("done", "nothing is written, with fast_dev_run" if folder == Path() else folder)
