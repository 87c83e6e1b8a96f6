"""The benchmark scripts run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import (
    communication,
    counts,
    loss,
    loss_compiled,
    loss_report,
    loss_views,
    memory,
)
from benchmarks.loss import OBJECTIVES


def test_loss_has_a_row_for_each_objective_and_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = ["--n", "8", "--rounds", "1", "--seconds", "0", "--save", str(tmp_path / "loss.jsonl")]
    loss.main([*few, "--d", "16"])
    loss.main([*few, "--d", "16", "4"])
    printed = capsys.readouterr().out
    for name in OBJECTIVES:
        assert printed.count(f"\n{name} 8 16 ") == 1
        assert f"| {name} | 8 | 16 |" in printed
        assert f"| {name} | 8 | 4 |" in printed


def test_report_has_tables_and_a_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved, picture = tmp_path / "loss.jsonl", tmp_path / "loss.png"
    few = ["--n", "8", "--d", "16", "4", "--rounds", "1", "--seconds", "0", "--tera", "0"]
    loss.main([*few, "--save", str(saved)])
    loss_report.main([str(saved), "--plot", str(picture), "--n", "8"])
    printed = capsys.readouterr().out
    for name in OBJECTIVES:
        assert f"{name}: ours, ms" in printed
    assert "| N \\ D | 4 | 16 |" in printed
    assert "| 8 | – | – |" in printed  # the official way needs more than --tera
    assert picture.stat().st_size > 0


@pytest.mark.parametrize(
    "name,gram,dense,official",
    [("mixbt", 6, 9, 21), ("barlow_twins", 4, 3, 3), ("multiaug_vicreg", 4, 4, 6)],
)
def test_counted_multiplications(name: str, gram: int, dense: int, official: int) -> None:
    n, d = 16, 24
    assert counts.count(name, "gram", n, d).multiplications == gram * n * n * d
    assert counts.count(name, "dense", n, d).multiplications == dense * n * d * d
    assert counts.count(name, "official", n, d).multiplications == official * n * d * d


def test_counted_bytes_are_those_read_and_written() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    with counts.Counts() as counted:
        out = a.new_empty(3, 5)
        torch.addmm(out, a, b, beta=0, out=out)
    assert counted.bytes == 4 * (3 * 4 + 4 * 5 + 3 * 5)
    with counts.Counts() as counted:
        a.new_zeros(7).add_(b[0, 0])
    assert counted.bytes == 4 * (7 + 7 + 1 + 7)


def test_loss_of_more_views(capsys: pytest.CaptureFixture[str]) -> None:
    loss_views.main(["--n", "8", "--d", "16", "--rounds", "1", "--seconds", "0"])
    assert capsys.readouterr().out.count("| 8 | 16 |") == 4


@pytest.mark.parametrize("name", loss_compiled.PLAIN)
def test_plain_statements_are_the_losses(name: str) -> None:
    views = [torch.randn(8, 16, dtype=torch.float64) for _ in range(OBJECTIVES[name].views)]
    perm = torch.randperm(8)
    stated = {"unbiased": True, "eps": 0.0} if name == "barlow_twins" else {}
    expected = OBJECTIVES[name].ours(views, perm=perm, **stated).loss
    torch.testing.assert_close(loss_compiled.PLAIN[name](views, perm=perm), expected)


def test_compiled_loss(capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--n", "8", "--d", "16", "--rounds", "1", "--seconds", "0"]
    loss_compiled.main([*few, "--backend", "aot_eager"])
    assert capsys.readouterr().out.count("| 8 | 16 |") == len(loss_compiled.PLAIN)


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
