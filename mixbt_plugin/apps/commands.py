"""The commands' entry points. What a command works with is imported when its task begins."""

from __future__ import annotations

import sys

from mixbt_plugin.apps.command import run_command


def pretrain() -> None:
    """``mixbt-pretrain``."""
    run_command("pretrain", more_groups=("parity",), shows=True)


def linear() -> None:
    """``mixbt-linear``."""
    run_command("linear", more_groups=("finetuning", "transfer"), shows=True)


def knn() -> None:
    """``mixbt-knn``."""
    run_command("knn", default_config="default")


def export() -> None:
    """``mixbt-export``."""
    run_command("export", default_config="default")


def embed() -> None:
    """``mixbt-embed``."""
    run_command("embed", default_config="default")


def diagnose() -> None:
    """``mixbt-diagnose``."""
    run_command("diagnose", default_config="default")


def compare() -> None:
    """``mixbt-compare``."""
    run_command("compare")


def doctor() -> int:
    """``mixbt-doctor``; what it returns is the command's exit status."""
    from mixbt_plugin.apps.doctor import main

    return main(sys.argv[1:])
