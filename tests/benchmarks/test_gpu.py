"""The GPU's benchmark and report have all their parts, the CPU standing in."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu
from tests.gpu.report import Report


@pytest.mark.slow
def test_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--small", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert printed.startswith("# the CPU standing in")
    for row in ("| mixbt | 32 | 256 |", "| narrow_resnet10 | 32 | 16 | 64 | eager |", "| 4 | 32 |"):
        assert row in printed


def phase(name: str, when: str, outcome: str, longrepr: Any = None) -> SimpleNamespace:
    return SimpleNamespace(
        nodeid=f"tests/gpu/{name}", when=when, outcome=outcome, longrepr=longrepr, duration=0.5
    )


def test_report(tmp_path: Path) -> None:
    report = Report(torch.device("cpu"))
    report.add(phase("test_a.py::test_fine", "setup", "passed"))
    report.add(phase("test_a.py::test_fine", "call", "passed"))
    report.add(
        phase("test_a.py::test_bad", "call", "failed", ">   f(x)\nE   AssertionError: 2 | 1\nE   x")
    )
    report.add(
        phase(
            "test_b.py", "collect", "skipped", ("test_b.py", 3, "Skipped: could not import 'hydra'")
        )
    )
    report.add(phase("test_c.py::test_long", "setup", "passed"))
    report.figures.append({"test": "test_fine", "figure": "error", "value": 1.5e-7, "limit": 1e-4})
    report.write(tmp_path)

    found = json.loads((tmp_path / "test_gpu.json").read_text())
    assert found["machine"]["device"] == "the CPU standing in"
    assert found["versions"]["torch"] == version("torch")
    assert found["figures"] == report.figures
    assert [test["outcome"] for test in found["tests"]] == [
        "passed",
        "failed",
        "skipped",
        "interrupted",
    ]
    assert found["tests"][0]["seconds"] == 1.0
    text = (tmp_path / "test_gpu.md").read_text()
    assert "1 passed, 1 failed, 1 skipped, 1 interrupted" in text
    assert "| failed | test_a.py::test_bad | AssertionError: 2 \\| 1 |" in text
    assert "| skipped | test_b.py | could not import 'hydra' |" in text
    assert "| test_fine | error | 1.5e-07 | 0.0001 |" in text
