"""What the plugin costs before anything runs: its imports, and ``mixbt-pretrain --help``.

``python -m benchmarks.startup``. Each is measured in processes of their own; the imports from
inside, after what an application has imported anyway.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.interleaved import interleave, machine, table

PROJECT = Path(__file__).parents[1]
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
IMPORTS = {
    "import mixbt_plugin, after torch": ("torch", "import mixbt_plugin"),
    "our Hydra plugin, in a Hydra application without solo-learn": (
        "hydra.core.config_search_path, hydra.plugins.search_path_plugin",
        "import hydra_plugins.mixbt_plugin.registration",
    ),
}
COMMAND = "from mixbt_plugin.apps.commands import pretrain; pretrain()"


def python(*arguments: str) -> str:
    """What Python prints, run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        ).stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(arguments).rounds
    rows: list[tuple[str, float]] = []
    for what, (before, timed) in IMPORTS.items():
        code = f"import {before}; {TIMED.format(timed)}"
        rows.append((what, median(float(python("-c", code)) for _ in range(rounds))))
    whole = interleave(
        {"mixbt-pretrain --help": lambda: python("-c", COMMAND, "--help")},
        rounds=rounds,
    )
    rows += [(what, median(seconds)) for what, seconds in whole.items()]
    print(machine("hydra-core", "lightning"))
    print(table(["what", "ms"], [[what, f"{seconds * 1e3:.1f}"] for what, seconds in rows]))


if __name__ == "__main__":
    main()
