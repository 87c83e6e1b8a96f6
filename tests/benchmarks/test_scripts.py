"""The benchmark scripts run."""

from __future__ import annotations

import pytest

from benchmarks import communication, loss, memory
from benchmarks.loss import OBJECTIVES


def test_loss_has_a_row_for_each_objective(capsys: pytest.CaptureFixture[str]) -> None:
    loss.main(["--n", "8", "--d", "16", "--rounds", "1"])
    printed = capsys.readouterr().out
    for name in OBJECTIVES:
        assert f"| {name} | 8 | 16 |" in printed


def test_communication_counts_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    communication.main(["--objectives", "barlow_twins", "--n", "8", "--d", "4096"])
    row = capsys.readouterr().out.splitlines()[-1].split("|")
    # The views go out and their gradients come back: 2 · 2 · 8 · 4096 float32, 0.5 MiB.
    assert 0.5 <= float(row[4]) < 0.52
    assert float(row[-2]) == 64.0


def test_memory_has_a_row_for_each_number_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--images", "600", "--files", "600", "--workers", "1", "2"])
    rows = [row.split("|")[1:-1] for row in capsys.readouterr().out.splitlines()[-4:]]
    assert [int(row[1]) for row in rows] == [1, 2, 1, 2]
    # Each has memory of its own, and far less than the interpreter and the libraries take.
    assert all(1 <= int(row[-1]) < 200 for row in rows)
