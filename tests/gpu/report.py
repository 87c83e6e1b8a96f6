"""What the ``gpu`` tests found, as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("torch", "torchvision", "lightning", "timm", "numpy", "hydra-core", "omegaconf"),
    *("torchmetrics", "triton", "nvidia-dali-cuda130", "nvidia-dali-cuda120"),
)


class Report:
    """Collects tests and figures.

    Attributes:
        figures: test, name, value and limit of each.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.started = time.time()
        self.tests: dict[str, dict[str, Any]] = {}
        self.figures: list[dict[str, Any]] = []

    def add(self, found: Any) -> None:
        """A phase of a test, or a module that was not collected, as pytest reports it."""
        name = found.nodeid.rsplit("/", 1)[-1]
        test = self.tests.setdefault(name, {"test": name, "outcome": "interrupted", "seconds": 0.0})
        test["seconds"] = round(test["seconds"] + getattr(found, "duration", 0.0), 2)
        if found.outcome == "passed" and found.when == "call":
            test["outcome"] = "passed"
        elif found.outcome == "skipped":
            reason = found.longrepr[2] if isinstance(found.longrepr, tuple) else found.longrepr
            test |= {"outcome": "skipped", "reason": str(reason).removeprefix("Skipped: ")}
        elif found.outcome == "failed":
            last = str(found.longrepr).strip().splitlines()
            lines = [line[1:].strip() for line in last if line.startswith("E ")] or last[-1:]
            test |= {"outcome": "failed", "reason": lines[0][:300]}

    def contents(self) -> dict[str, Any]:
        """All of it."""
        return {
            "machine": machine(self.device),
            "versions": versions(),
            "seconds": round(time.time() - self.started, 1),
            "tests": list(self.tests.values()),
            "figures": self.figures,
        }

    def write(self, folder: Path) -> None:
        """Writes ``test_gpu.json`` and ``test_gpu.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        found = self.contents()
        text = json.dumps(found, indent=1, ensure_ascii=False)
        (folder / "test_gpu.json").write_text(text + "\n", encoding="utf-8")
        (folder / "test_gpu.md").write_text(markdown(found), encoding="utf-8")


def machine(device: torch.device) -> dict[str, Any]:
    """Device, processor and system."""
    found: dict[str, Any] = {"device": "the CPU standing in"}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found = {
            "device": card.name,
            "devices": torch.cuda.device_count(),
            "device memory, GiB": round(card.total_memory / 2**30, 1),
            "compute capability": f"{card.major}.{card.minor}",
        }
    return {
        **found,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Of Python, CUDA, cuDNN and packages; those that are missing say so."""
    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    found["cudnn"] = str(torch.backends.cudnn.version() if torch.cuda.is_available() else None)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def markdown(found: dict[str, Any]) -> str:
    """The report to read."""
    outcomes = [test["outcome"] for test in found["tests"]]
    counts = ", ".join(
        f"{outcomes.count(outcome)} {outcome}"
        for outcome in ("passed", "failed", "skipped", "interrupted")
        if outcome != "interrupted" or outcome in outcomes
    )
    parts = [
        f"# GPU tests: {found['machine']['device']}",
        f"{counts}, in {found['seconds']:.0f} s.",
        _list(found["machine"]),
        _list(found["versions"]),
    ]
    if not_passed := [test for test in found["tests"] if test["outcome"] != "passed"]:
        parts += ["## Not passed", _table(not_passed, ("outcome", "test", "reason"))]
    if found["figures"]:
        keys = ("test", "figure", "value", "limit")
        parts += ["## Figures", _table(found["figures"], keys)]
    parts += ["## Tests", _table(found["tests"], ("test", "outcome", "seconds"))]
    return "\n\n".join(parts) + "\n"


def _list(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _table(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> str:
    cells = [[_cell(row.get(key, "")) for key in keys] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [keys, ["---"] * len(keys), *cells])


def _cell(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
