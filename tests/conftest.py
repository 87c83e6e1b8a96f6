"""Says which host ran, and skips what needs solo-learn where it is not there."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbt_plugin.host.detect import detect

os.environ.setdefault("WANDB_MODE", "disabled")
HOST = detect()


def pytest_report_header() -> str:
    return f"host: {HOST}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"host of this run: {HOST}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {}
    if HOST.is_embedded:
        reasons["solo_learn"] = "needs a solo-learn checkout (SOLO_LEARN_PATH)"
    elif find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
        reasons["dali"] = "nvidia.dali is not installed (extra [dali])"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The solo-learn checkout."""
    assert HOST.path is not None
    return HOST.path.parent


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command writes lands in the test's own folder."""
    root = str(Path(__file__).parents[1])
    present = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, *present])))
    monkeypatch.chdir(tmp_path)
    if root not in sys.path:
        sys.path.insert(0, root)


@pytest.fixture(autouse=True)
def enabled_loggers() -> None:
    """A command that ran in this process has disabled all loggers of its time, as Hydra does."""
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).disabled = False


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keyword arguments of each ``torch.load`` from here on."""
    calls: list[dict[str, Any]] = []
    load = torch.load

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", counting)
    return calls
