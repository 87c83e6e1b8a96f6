"""The device of the ``gpu`` tests, and the report of what they found.

Here because ``scripts/test_gpu.sh`` reads no other conftest: a machine may have PyTorch and pytest
alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.gpu.report import Report

DEVICE = torch.device(os.environ.get("MIXBT_GPU_DEVICE", "cuda"))
THERE = DEVICE.type == "cpu" or torch.cuda.is_available()
report = Report(DEVICE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not THERE:
                item.add_marker(pytest.mark.skip(reason="no CUDA device (scripts/test_gpu.sh)"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    globals()["report"].add(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.outcome != "passed":
        globals()["report"].add(report)


def pytest_sessionfinish() -> None:
    if folder := os.environ.get("MIXBT_GPU_REPORT"):
        report.write(Path(folder))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU, or the CPU where it stands in."""
    return DEVICE


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, float, float], None]:
    """Notes a figure in the report, and fails where it is above its limit."""

    def note(name: str, value: float, limit: float) -> None:
        report.figures.append(
            {"test": request.node.name, "figure": name, "value": value, "limit": limit}
        )
        assert value <= limit, f"{name}: {value:.3g}, above {limit:g}"

    return note


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
